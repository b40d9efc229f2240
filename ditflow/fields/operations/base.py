"""What operations share: places beyond the frame, and what is known of them."""

# F times, H W rows and columns of cells; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

import math

import torch
from torch import Tensor

from ditflow.fields.field import FieldError, MotionField, cell_places, looked_up
from ditflow.fields.fill import filled


def check_finite(done: str, number: float) -> None:
    if not math.isfinite(number):
        raise FieldError(f"a motion is {done} that is finite, not by {number:g}.")


def check_factor(factor: float) -> None:
    """FieldError unless a motion can be so many times as slow."""
    if not (factor > 0 and math.isfinite(factor)):
        raise FieldError(f"a motion is slowed by a factor above 0, not by {factor:g}.")


def together(first: MotionField, second: MotionField) -> tuple[MotionField, MotionField]:
    """Both fields at the times of both, on the cells and in the length of the first."""
    if (first.times, first.cells, first.frames) == (second.times, second.cells, second.frames):
        return first, second
    stretch = (first.frames - 1) / max(second.frames - 1, 1)
    later = {round(min(time * stretch, first.frames - 1.0), 6) for time in second.times}
    own = {round(time, 6) for time in first.times}
    times = sorted({*first.times, *(later - own)})
    given = times, first.cells, first.frames
    return first.resampled(*given), second.resampled(*given)


def inside(displacement: Tensor) -> Tensor:
    """Whether each cell's displacement points into the frame: bool (F, H, W)."""
    rows, columns = displacement.shape[-2:]
    places = cell_places(rows, columns) + displacement
    margin = torch.tensor([0.5 / columns, 0.5 / rows])[:, None, None] - 1e-5  # centres of the rim
    return ((places >= margin) & (places <= 1 - margin)).all(1)


def continued(displacement: Tensor, known: Tensor) -> Tensor:
    """Displacements, filled in by the camera's motion where they are not known (F, H, W)."""
    return torch.where(known[:, None], displacement, filled(displacement, known.float()))


def trust_at(confidence: Tensor, displacement: Tensor) -> Tensor:
    """Confidence (F, H, W) at the places that displacements point to, 0 beyond the frame."""
    found = looked_up(confidence[:, None], displacement)[:, 0]
    return found.clamp(0, 1) * inside(displacement)
