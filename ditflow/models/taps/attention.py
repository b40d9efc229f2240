"""Taps on a frozen, stock diffusers transformer: other positions, recordings, an early end.

A tap takes the rotary table out of the call of each self-attention, so that the stock processor
skips its own (in-place) rotation, and rotates the outputs of the query and key norms instead. With
the model's own table the result is bit-identical to stock. Where the model's own rotation is all
there is to do, the tap is idle and the stock processor rotates. The table travels as an argument of
the call: recomputation under gradient checkpointing sees the one that the forward pass saw. Then
stay inside the context until the backward pass has finished. The root carries plain torch hooks,
which survive model offload. A compiled block rotates by itself, and carries a tap only where that
records or injects.
"""

# B batch (b: 1 or B), L text tokens, N video tokens, A heads, D head dim, E hidden dim

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ditflow.core.positions import Side
from ditflow.core.tokens import KeyValue, Recording
from ditflow.models.taps.compiled import Rotating
from ditflow.models.taps.hooks import hook, watch
from ditflow.models.taps.layout import Args, Kwargs, Layout, rotated


class StopForward(Exception):
    """Raised inside the transformer when all that was asked for has been recorded."""


@contextmanager
def taps(
    transformer: nn.Module,
    layout: Layout,
    recording: Recording | None = None,
    *,
    capture: Collection[int] = (),
    features: Collection[int] = (),
    text: Collection[int] = (),
    stop_early: bool = False,
    key_value: KeyValue | None = None,
) -> Iterator[Recording]:
    """Install the hooks; leaving removes them all, also after an exception.

    What is recorded goes into `recording`, which several transformers may share. `capture`,
    `features` and `text` are the blocks to record: their attention among video tokens, their
    output, and their attention to text. `key_value` replaces keys and values of video
    tokens; a captured key is the block's own, before replacement. With `stop_early` a forward pass
    raises `StopForward` once the deepest of them is recorded, for attention inside its key norm.
    """
    recording, injected = recording or Recording(), key_value or {}
    last = max([*capture, *features, *text], default=-1) if stop_early else -1
    joint, apart = (text, ()) if layout.cross is None else ((), text)
    with ExitStack() as stack:
        if {*capture, *features, *text}:
            watch(stack, transformer, begin=recording.begin, end=recording.end)
        for index, block in enumerate(layout.all_blocks(transformer)):
            tap = _AttentionTap(
                layout,
                block.get_submodule(layout.attention),
                recording,
                captured=index if index in capture or index in joint else None,
                injected=injected.get(index),
                stops=index == last and index not in features and index not in apart,
            )
            if tap.acts or not isinstance(tap.attention.processor, Rotating):
                tap.install(stack)
            if index in apart:
                cross = block.get_submodule(layout.cross or "")
                stops = index == last and index not in features
                _CrossTap(cross, recording, index, stops).install(stack)
        for index, follower in enumerate(layout.followers(transformer)):
            if index in features:
                feature = _FeatureTap(recording, index, stops=index == last)
                hook(stack, follower, before=feature.enter)
        yield recording


@dataclass
class _AttentionTap:
    """The hooks of one self-attention. `rotary`, `text` and `idle` belong to the call that runs. It
    is idle, and leaves the table in the call, where the model's own rotation is all there is to do:
    no positions of ours, no gradients, nothing to record or inject.
    """

    layout: Layout
    attention: Any
    recording: Recording
    captured: int | None  # the block's index where it is recorded
    injected: tuple[Tensor, Tensor] | None
    stops: bool
    rotary: Any = None
    text: int = 0
    idle: bool = False

    @property
    def acts(self) -> bool:
        """Whether there is something to record or to inject."""
        return self.captured is not None or self.injected is not None

    def install(self, stack: ExitStack) -> None:
        hook(stack, self.attention, before=self.enter)
        hook(stack, self.attention.get_submodule("norm_q"), after=self.query)
        hook(stack, self.attention.get_submodule("norm_k"), after=self.key)
        if self.acts:
            hook(stack, self.attention.get_submodule("to_v"), after=self.value)

    def enter(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Take the rotary table out of the call."""
        place = self.layout.rotary
        self.text = kwargs["encoder_hidden_states"].shape[1] if self.layout.text_first else 0
        self.rotary = kwargs[place] if isinstance(place, str) else args[place]
        ours = isinstance(self.rotary, Tensor) or torch.is_grad_enabled()
        self.idle = not ours and not self.acts
        if self.idle:
            return args, kwargs
        if isinstance(place, str):
            return args, {**kwargs, place: None}
        return (*args[:place], None, *args[place + 1 :]), kwargs

    def query(self, output: Tensor) -> Tensor:
        if self.idle:
            return output
        text, video = self._rotated(output, side=0)
        self._record(self.recording.query, video)
        if self.layout.text_first:
            self._record(self.recording.text_query, video)
        return self.layout.as_norms(torch.cat([text, video], dim=1))

    def key(self, output: Tensor) -> Tensor:
        if self.idle:
            return output
        text, video = self._rotated(output, side=1)
        self._record(self.recording.key, video)
        if self.layout.text_first:
            self._record(self.recording.text_key, text)
        if self.stops and self.recording.live:
            raise StopForward
        video = video if self.injected is None else self.injected[0].to(video).expand_as(video)
        return self.layout.as_norms(torch.cat([text, video], dim=1))

    def value(self, output: Tensor) -> Tensor:
        text, video = output[:, : self.text], output[:, self.text :]  # (B, L, E), (B, N, E)
        self._record(self.recording.value, video.unflatten(-1, (self.attention.heads, -1)))
        if self.injected is not None:
            video = self.injected[1].to(video).flatten(2).expand_as(video)
        return torch.cat([text, video], dim=1)

    def _rotated(self, output: Tensor, side: Side) -> tuple[Tensor, Tensor]:
        """Text tokens and rotated video tokens (B, ., A, D) of what a norm gives."""
        output = self.layout.tokens_of(output, self.attention.heads)
        text, video = output[:, : self.text], output[:, self.text :]
        return text, video if self.rotary is None else rotated(video, self.rotary, side)

    def _record(self, into: dict[int, Tensor], tokens: Tensor) -> None:
        if self.captured is not None and self.recording.live:
            into[self.captured] = tokens


@dataclass(frozen=True)
class _CrossTap:
    """Reads the query of video tokens and the key of text tokens, in an attention of their own."""

    attention: Any
    recording: Recording
    block: int
    stops: bool

    def install(self, stack: ExitStack) -> None:
        hook(stack, self.attention.get_submodule("norm_q"), after=self.query)
        hook(stack, self.attention.get_submodule("norm_k"), after=self.key)

    def query(self, output: Tensor) -> Tensor:
        return self._recorded(self.recording.text_query, output)

    def key(self, output: Tensor) -> Tensor:
        output = self._recorded(self.recording.text_key, output)
        if self.stops and self.recording.live:
            raise StopForward
        return output

    def _recorded(self, into: dict[int, Tensor], output: Tensor) -> Tensor:
        if self.recording.live:
            into[self.block] = output.unflatten(-1, (self.attention.heads, -1))
        return output


@dataclass(frozen=True)
class _FeatureTap:
    """Reads the output of a block where its follower receives it."""

    recording: Recording
    block: int
    stops: bool

    def enter(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        if self.recording.live:
            self.recording.features[self.block] = args[0] if args else kwargs["hidden_states"]
            if self.stops:
                raise StopForward
        return args, kwargs
