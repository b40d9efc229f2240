"""Savings: approximations of an optimisation, each off unless it is asked for.

They are written in words, "reuse 3, stop .02, pairs neighbours", separated by commas, as the
changes of a motion are. To take a gradient again in other updates, and to look for attention near
by alone, are published ideas (FastVMT, Ma et al., 2602.05551); the code is ours. What each costs in
motion and saves in passes is measured in BENCHMARKS.md.
"""

# B batch, K inner steps

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion import AttentionMotionFlow, MotionSignal
from ditflow.motion.attention import PAIRS, TYPES, Scan

# what a saving takes: in words, how many of them, and the fields that they are
TAKES: dict[str, tuple[str, Collection[int], Callable[..., dict[str, Any]]]] = {
    "reuse": (
        "UPDATES, from 2 up, and perhaps a COSINE",
        (1, 2),
        lambda n, cosine=None: {"reuse": int(n), "alike": cosine and float(cosine)},
    ),
    "stop": ("SHARE, above 0 and below 1", (1,), lambda share: {"stop": float(share)}),
    "pairs": (" or ".join(PAIRS[1:]), (1,), lambda name: {"pairs": name}),
    "window": ("TOKENS, from 1 up", (1,), lambda tokens: {"window": int(tokens)}),
    "scores": (" or ".join(TYPES[1:]), (1,), lambda name: {"scores": name}),
}


@dataclass(frozen=True)
class Savings:
    """What an optimisation is spared. Without any it is exact.

    Attributes:
        reuse: a gradient is taken again until so many updates have had it, over guided steps too.
        alike: of `reuse`, only while gradients stay alike: the first one serves one update, the
            next twice as many as the one before, up to `reuse`, and one again as soon as a fresh
            gradient and the one that it replaces have a cosine below this.
        stop: the updates of a guided step end where the loss has fallen by less than this share of
            it since the update before. One update a step has nothing to end.
        pairs: of frames that are compared: neighbours alone, or these and each frame with the
            first one (anchors).
        window: tokens to each side of a token's own row and column, beyond which it does not look.
            Coordinates stay those of the frame. Tokens that go further in the reference are free.
        scores: number format of queries, keys and their products. The softmax is in float32.
    Raises: ValueError for values that cannot be.
    """

    reuse: int = 1
    alike: float | None = None
    stop: float | None = None
    pairs: str = "all"
    window: int | None = None
    scores: str = "float32"

    def __post_init__(self) -> None:
        fits = {
            "reuse": 1 <= self.reuse < 2**16 and (self.alike is None or -1 <= self.alike <= 1),
            "stop": self.stop is None or 0 < self.stop < 1,
            "pairs": self.pairs in PAIRS,
            "window": self.window is None or 1 <= self.window < 2**16,
            "scores": self.scores in TYPES,
        }
        for name, fitting in fits.items():
            if not fitting:
                raise ValueError(_other(name, " ".join(map(str, self._words(name)))))

    @classmethod
    def parsed(cls, text: str) -> Savings:
        """Of words. Raises ValueError for a saving that is not known, or is said twice, or takes
        other words.
        """
        given: dict[str, Any] = {}
        for name, *words in filter(None, map(str.split, text.split(","))):
            if name not in TAKES:
                said = " ".join([name, *words])
                raise ValueError(f"unknown saving {said!r:.80}; there are {_known()}.")
            if name in given:
                raise ValueError(f"the saving {name} is said twice in {text!r:.80}: say it once.")
            _, number, fields = TAKES[name]
            try:
                if len(words) not in number:
                    raise ValueError
                given |= fields(*words)
                if name == "reuse" and given["reuse"] < 2:
                    raise ValueError
            except ValueError:
                raise ValueError(_other(name, " ".join(words))) from None
        return cls(**given)

    def __str__(self) -> str:
        return ", ".join(self._said())

    def _said(self) -> Iterator[str]:
        for name in TAKES:
            if getattr(self, name) != getattr(Savings, name):
                yield " ".join([name, *(f"{word}" for word in self._words(name))])

    def _words(self, name: str) -> list[Any]:
        words = [getattr(self, name)]
        return [*words, self.alike] if name == "reuse" and self.alike is not None else words

    @property
    def scan(self) -> Scan:
        """How scores are read."""
        return Scan(self.pairs, self.window, self.scores)

    def check(self, signal: MotionSignal[Any]) -> None:
        """Raise ValueError for savings that are of another signal's scores."""
        if self.scan != Scan() and not isinstance(signal, AttentionMotionFlow):
            raise ValueError(
                f"pairs, window and scores are savings of the signal amf, and the signal is "
                f"{signal.name}: leave them out."
            )

    def loss(
        self, signal: MotionSignal[Any], recording: Recording, grid: TokenGrid, motion: Any
    ) -> Tensor:
        """The signal's loss (B,), as it is or of a part of the scores."""
        if isinstance(signal, AttentionMotionFlow) and self.scan != Scan():
            return signal.scanned(recording, grid, motion, self.scan)
        return signal.loss(recording, grid, motion)

    @property
    def adapts(self) -> bool:
        """Whether what is spared depends on the clip, so that a cost is the most that it can be."""
        return self.stop is not None or self.alike is not None

    def gradients(self, updates: int) -> int:
        """How many of so many updates have a fresh gradient, at most."""
        return updates if self.alike is not None else math.ceil(updates / self.reuse)


class Kept(NamedTuple):
    """A gradient (B, ...) that may be taken again, its loss (B,), and its pace (B, 2): how many
    updates are left for it, and how many it is for.
    """

    gradient: Tensor
    loss: Tensor
    pace: Tensor


@dataclass
class Updates:
    """The updates of one guided step: which of them are spared, clip by clip, so that no clip
    depends on its batch. A pass is spared where no clip of the batch needs it.

    `losses` (B,) are those that the gradients of the updates are of: one that is taken again
    repeats its loss.
    """

    savings: Savings
    kept: Kept | None
    losses: list[Tensor] = field(default_factory=list)
    stopped: Tensor | None = None  # bool (B,)

    @property
    def due(self) -> bool:
        """Whether any clip needs a fresh gradient."""
        return self.kept is None or bool(self._due(self.kept).any())

    def stop(self, loss: Tensor) -> bool:
        """Whether all clips stop, by their losses (B,) before an update."""
        if self.savings.stop is None or self.kept is None or not self.losses:
            return False
        still = self._due(self.kept) & (loss >= (1 - self.savings.stop) * self.losses[-1])
        self.stopped = still if self.stopped is None else self.stopped | still
        return bool(self.stopped.all())

    def keep(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a fresh gradient (B, ...) where one is due."""
        reuse, alike = self.savings.reuse, self.savings.alike
        span = torch.full_like(loss, reuse if alike is None else 1)
        if self.kept is not None and alike is not None:
            cosine = torch.cosine_similarity(gradient.flatten(1), self.kept.gradient.flatten(1))
            longer = (2 * self.kept.pace[:, 1]).clamp(max=reuse)
            span = torch.where(cosine >= alike, longer, span)
        fresh = Kept(gradient, loss, torch.stack([span, span], dim=1))
        if self.kept is not None:
            due = self._due(self.kept)
            fresh = Kept(*(_where(due, x, old) for x, old in zip(fresh, self.kept, strict=True)))
        self.kept = fresh

    def take(self, optimizer: torch.optim.Optimizer, parameter: Tensor) -> None:
        """One update of the parameter (B, ...), but of the clips that have stopped."""
        assert self.kept is not None
        self.losses.append(self.kept.loss)
        before, parameter.grad = parameter.detach().clone(), self.kept.gradient
        optimizer.step()
        left = self.kept.pace - self.kept.pace.new_tensor([1.0, 0.0])
        if self.stopped is not None:
            left = _where(self.stopped, self.kept.pace, left)
            with torch.no_grad():
                parameter.copy_(_where(self.stopped, before, parameter))
        self.kept = self.kept._replace(pace=left)

    def _due(self, kept: Kept) -> Tensor:
        due = kept.pace[:, 0] <= 0
        return due if self.stopped is None else due & ~self.stopped


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (new.ndim - 1)), new, old)


def _other(name: str, words: str) -> str:
    return f"a saving is {f'{name} {words}'.strip()!r:.80}, but {name} takes {TAKES[name][0]}."


def _known() -> str:
    return ", ".join(f"{name} {takes}" for name, (takes, _, _) in TAKES.items())
