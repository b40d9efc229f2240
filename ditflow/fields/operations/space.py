"""A motion in a mirror, and turned."""

# F times, H W rows and columns of cells; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ditflow.fields.field import FieldError, MotionField, cell_places, looked_up
from ditflow.fields.operations.base import check_finite, continued, inside, trust_at


def mirrored(
    field: MotionField, across: Literal["left-right", "top-bottom"] = "left-right"
) -> MotionField:
    """The motion in a mirror that changes left and right, or top and bottom."""
    if across not in ("left-right", "top-bottom"):
        raise FieldError(f"a field is mirrored left-right or top-bottom, not {across!r}.")
    axis = -1 if across == "left-right" else -2
    sign = torch.tensor([-1.0, 1.0] if axis == -1 else [1.0, -1.0])[:, None, None]
    return field.replaced(field.displacement.flip(axis) * sign, field.confidence.flip(axis))


def rotated(field: MotionField, degrees: float) -> MotionField:
    """The motion as if the picture had been turned clockwise about the frame's centre."""
    check_finite("rotated by a number of degrees", degrees)
    turn, sides = _turn(degrees), torch.tensor([field.aspect, 1.0])
    places = cell_places(*field.cells) - 0.5
    back = _by(turn.mT, places[None], sides) - places  # to where a cell was before the turn
    back = back.expand_as(field.displacement)
    moved = _by(turn, looked_up(field.displacement, back), sides)
    return field.replaced(continued(moved, inside(back)), trust_at(field.confidence, back))


def _turn(degrees: float) -> Tensor:
    """A clockwise turn (2, 2): x right, y down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[cos, -sin], [sin, cos]])


def _by(turn: Tensor, values: Tensor, sides: Tensor) -> Tensor:
    """Vectors (F, 2, H, W) in shares of the frame, turned in its true proportions."""
    turn = turn * sides / sides[:, None]
    return torch.einsum("ij,fjyx->fiyx", turn, values)
