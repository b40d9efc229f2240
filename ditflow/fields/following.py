"""Follow a clip's pixels back to its first frame: optical flow, chained.

The flow between neighbouring times is measured in both directions. Chaining composes it, from each
pixel back to the start. Where the two directions disagree (Sundaram et al., ECCV 2010), and where a
path leaves the frame, confidence falls, and the displacement is filled in from what is trusted.
"""

# T frames, C channels, Y X pixel rows and columns, F times; displacements are (dx, dy)

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ditflow.fields.field import FieldSource, MotionField, cell_places, looked_up, resized
from ditflow.fields.fill import filled

Flow = Callable[[Tensor, Tensor], Tensor]  # two frames (C, Y, X) -> pixels (2, Y, X)
EVERY = 2  # frames from one measured time to the next; every frame is no more exact
CELL = 4  # pixels a cell, in a small video
LONGEST = 64  # cells of the longer side


@dataclass(frozen=True)
class Step:
    """From one time of a video back to the one before: `back` (2, Y, X) in shares of the frame, and
    how far it is trusted (Y, X), from 0 to 1.
    """

    before: int
    now: int
    back: Tensor
    trust: Tensor


def measured_times(frames: int) -> list[int]:
    """The frames at which a video is measured: every second, and the last."""
    return [*range(0, frames - 1, EVERY), frames - 1]


def steps(frames: Tensor, times: Sequence[int], flow: Flow) -> Iterator[Step]:
    """The flow between neighbouring times of a video uint8 (T, C, Y, X), measured both ways."""
    scale = torch.tensor([1 / frames.shape[-1], 1 / frames.shape[-2]])[:, None, None]
    for before, now in pairwise(times):
        back = flow(frames[now], frames[before]) * scale
        there = flow(frames[before], frames[now]) * scale
        yield Step(before, now, back, agreement(back, there, scale))


def chained(
    frames: Tensor, times: Sequence[int], path: Iterable[Step], source: FieldSource
) -> MotionField:
    """The field of a video uint8 (T, C, Y, X) whose steps from time to time are given, at these of
    its frames. The first is the anchor.
    """
    size = height, width = frames.shape[-2], frames.shape[-1]
    shrink = min(1, LONGEST / max(size))
    fine = max(1, round(height * shrink)), max(1, round(width * shrink))
    moved, trusted = torch.zeros(2, *size), torch.ones(size)
    displacement, confidence = [torch.zeros(2, *fine)], [torch.ones(fine)]
    for step in path:
        moved = step.back + looked_up(moved[None], step.back[None])[0]
        trusted = step.trust * looked_up(trusted[None, None], step.back[None])[0, 0]
        trust = resized(trusted[None, None], fine)[0].clamp(0, 1)
        weight = trusted + 1e-4
        displacement.append(resized((moved * weight)[None], fine)[0] / (trust + 1e-4))
        confidence.append(trust[0])
    cells, sure = cells_of(height, width), torch.stack(confidence)
    return MotionField(
        resized(filled(torch.stack(displacement), sure), cells),
        resized(sure[:, None], cells)[:, 0].clamp(0, 1),
        tuple(map(float, times)),
        len(frames),
        width / height,
        source,
    )


def agreement(back: Tensor, there: Tensor, scale: Tensor) -> Tensor:
    """How far two opposite flows (2, Y, X) cancel out, from 0 to 1: (Y, X).

    Their sum is compared with their lengths, in pixels. A path that leaves the frame has 0.
    """
    answer = looked_up(there[None], back[None])[0]
    error = ((back + answer) / scale).square().sum(0)
    allowed = 0.01 * ((back / scale).square().sum(0) + (answer / scale).square().sum(0)) + 0.5
    places = cell_places(*back.shape[-2:]) + back
    inside = ((places >= 0) & (places <= 1)).all(0)
    return torch.exp(-((error / allowed) ** 2)) * inside


def cells_of(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the field of a video of that many pixels."""
    size = max(CELL, max(height, width) / LONGEST)
    return max(1, round(height / size)), max(1, round(width / size))
