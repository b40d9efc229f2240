"""Follow a clip's pixels back to its first frame: optical flow, chained.

The flow between neighbouring times is measured in both directions. Chaining composes it, from each
pixel back to the start. Where the two directions disagree (Sundaram et al., ECCV 2010), and where a
path leaves the frame, confidence falls, and the displacement is filled in from what is trusted.
"""

# T frames, C channels, Y X pixel rows and columns, F times; displacements are (dx, dy)

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ditflow.fields.field import FieldSource, MotionField, cell_places, looked_up, resized
from ditflow.fields.fill import filled
from ditflow.fields.flow import optical_flow

Flow = Callable[[Tensor, Tensor], Tensor]  # two frames (C, Y, X) -> pixels (2, Y, X)
CELL = 4  # pixels a cell, in a small video
LONGEST = 64  # cells of the longer side


def followed(
    frames: Tensor, times: Sequence[int], flow: Flow = optical_flow, clip: str = ""
) -> MotionField:
    """The field of a video uint8 (T, C, Y, X) at some of its frames, the first being the anchor."""
    scale = torch.tensor([1 / frames.shape[-1], 1 / frames.shape[-2]])[:, None, None]
    displacement = [torch.zeros(2, *frames.shape[-2:])]
    confidence = [torch.ones(frames.shape[-2:])]
    for before, now in zip(times, times[1:], strict=False):
        back = flow(frames[now], frames[before]) * scale
        there = flow(frames[before], frames[now]) * scale
        trust = agreement(back, there, scale)
        displacement.append(back + looked_up(displacement[-1][None], back[None])[0])
        confidence.append(trust * looked_up(confidence[-1][None, None], back[None])[0, 0])
    cells = cells_of(frames.shape[-2], frames.shape[-1])
    moved, trusted = torch.stack(displacement), torch.stack(confidence)
    moved = filled(moved, trusted)
    return MotionField(
        resized(moved, cells),
        resized(trusted[:, None], cells)[:, 0].clamp(0, 1),
        tuple(map(float, times)),
        len(frames),
        frames.shape[-1] / frames.shape[-2],
        FieldSource("dis", clip),
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
