"""Is there a motion to follow? What a clip must not have: cuts, no motion, changing brightness.

A cut shows in two ways at once: hardly a pixel has a path, and what the flow finds looks different.
It still does when both frames are given the same light. Where the light alone changes it does not.
"""

# T frames, C channels, Y X pixel rows and columns

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor

from ditflow.fields.field import FieldError, MotionField, looked_up
from ditflow.fields.flow import optical_flow
from ditflow.fields.following import Step, measured_times, steps
from ditflow.warning import warn

LOST = 0.75  # share of pixels without a path at a cut
UNLIKE = 0.35  # mean error of colours at a cut, as a share of their spread
FLICKER = 3.0  # levels of 255: a change of brightness that no motion explains
STILL = 0.25  # pixels: content that moves less does not move
UNSURE = 0.3  # share of the picture
NOTHING = 0.1  # of what flickers: share of the picture that is followed, as a mean over the clip


class Watch:
    """Looks at the steps of a video uint8 (T, C, Y, X) as they are measured."""

    def __init__(self, frames: Tensor, clip: str) -> None:
        if frames.ndim != 4 or 0 in frames.shape:
            raise FieldError(
                f"{_named(clip)} has shape {tuple(frames.shape)}; frames are (T, C, Y, X)."
            )
        if len(frames) < 2:
            raise FieldError(
                f"{_named(clip)} has one frame, which holds no motion: wanted at least 2 frames. "
                "Take a longer clip."
            )
        self.frames, self.clip = frames, clip
        self.jumps: list[int] = []

    def passed(self, step: Step) -> Step:
        """The same step. Raises FieldError if there is a cut in it."""
        before, now = self.frames[step.before].float(), self.frames[step.now].float()
        change = now - looked_up(before[None], step.back[None])[0]
        broken = _is_broken(step, change, now)
        if broken and self._is_broken_in_even_light(step):
            raise FieldError(
                f"{_named(self.clip)} has a cut at frame {self._cut(step)}: motion cannot be "
                "followed across it. Take the frames on one side of it, by the column start of "
                "a manifest, or by --start of ditflow motion."
            )
        followed = step.trust > 0.5
        seen = change[:, followed] if followed.any() else change.flatten(1)
        if broken or _is_brighter(seen):
            self.jumps.append(step.now)
        return step

    def look(self) -> None:
        """Look for cuts and for changes of brightness without a field. Raises FieldError for a cut.

        Flow is measured only where frames differ as at a cut, or in their brightness.
        """
        for pair in pairwise(measured_times(len(self.frames))):
            before, now = (self.frames[time].float() for time in pair)
            change = now - before
            if _is_unlike(change, now) or _is_brighter(change):
                for step in steps(self.frames, pair, optical_flow):
                    self.passed(step)

    def judge(self, field: MotionField) -> list[str]:
        """What is doubtful about the clip, in words without its name: no motion in its field,
        changes of brightness, and where trust ends. Raises FieldError where brightness changes so
        much that nothing was followed.
        """
        height, width = self.frames.shape[-2:]
        pixels = field.displacement * field.displacement.new_tensor([width, height])[:, None, None]
        doubts = []
        if float(pixels.norm(dim=1).max()) < STILL:
            doubts.append("is still: its field holds no motion.")
        followed = float((field.confidence[1:] >= 0.5).float().mean())
        if self.jumps and followed < NOTHING:
            raise FieldError(
                f"{_named(self.clip)} flickers, and {followed:.0%} of the picture can be followed: "
                "its motion cannot be told. Take frames of even light."
            )
        if self.jumps:
            doubts.append(
                f"changes its brightness at frame {self.jumps[0]}, which can look like motion, and "
                f"{followed:.0%} of the picture is followed: take frames of even light."
            )
        unsure = (field.confidence < 0.5).float().mean((1, 2))
        if float(unsure.max()) > UNSURE:
            worst = int(unsure.argmax())
            doubts.append(
                f"can be followed in part only: at frame {field.times[worst]:.0f}, "
                f"{float(unsure[worst]):.0%} of the picture is filled in from the rest."
            )
        return doubts

    def _is_broken_in_even_light(self, step: Step) -> bool:
        """Whether a step is a cut also where its first frame has the light of its second."""
        before, now = self.frames[step.before].float(), self.frames[step.now].float()
        if float(now.std()) < FLICKER:  # nothing is seen in it, in any light
            return True
        gain = now.std((1, 2), keepdim=True) / before.std((1, 2), keepdim=True).clamp_min(1)
        mean = before.mean((1, 2), keepdim=True)
        lit = (before - mean) * gain + now.mean((1, 2), keepdim=True)
        pair = torch.stack([lit.round().clamp(0, 255).to(torch.uint8), self.frames[step.now]])
        (even,) = steps(pair, (0, 1), optical_flow)
        return _is_broken(even, now - looked_up(lit[None], even.back[None])[0], now)

    def _cut(self, step: Step) -> int:
        """The first frame after the cut: the largest change from one frame to the next."""
        near = self.frames[step.before : step.now + 1].float()
        return step.before + 1 + int((near[1:] - near[:-1]).abs().mean((1, 2, 3)).argmax())


def _is_broken(step: Step, change: Tensor, now: Tensor) -> bool:
    """Whether hardly a pixel has a path, and what the flow finds differs by `change`."""
    return float(1 - step.trust.mean()) > LOST and _is_unlike(change, now)


def _is_unlike(change: Tensor, now: Tensor) -> bool:
    """Whether colours (C, Y, X) have changed as they do at a cut."""
    return float(change.abs().mean()) > UNLIKE * float(now.std()) + FLICKER


def _is_brighter(change: Tensor) -> bool:
    """Whether most colours (C, ...) have changed their brightness, up or down."""
    return float(change.flatten(1).median(1).values.mean().abs()) > FLICKER


def say(doubts: Iterable[str], clip: str = "") -> None:
    """Warn of what `Watch.judge` says of a clip."""
    for doubt in doubts:
        warn(f"{_named(clip)} {doubt}")


def _named(clip: str) -> str:
    return f"clip {clip!r}" if clip else "the clip"
