"""How much of a motion there is, and which part of it."""

# F times, H W rows and columns of cells; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

import math

import torch
from torch import Tensor

from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.fill import affine_motion
from ditflow.fields.operations.base import check_finite


def scaled(field: MotionField, amount: float) -> MotionField:
    """A motion that goes `amount` as far: 0 is still, and below 0 it goes the other way."""
    check_finite("scaled by a number", amount)
    return field.replaced(field.displacement * amount)


def split(field: MotionField) -> tuple[MotionField, MotionField]:
    """The camera's motion, and the rest: `added(camera, rest)` is the field again.

    The camera's is the affine motion of each time that most of the trusted cells agree with. To
    give a field another camera, add another's camera to its rest.
    """
    camera = affine_motion(field.displacement, field.confidence)
    return field.replaced(camera), field.replaced(field.displacement - camera)


def smoothed(field: MotionField, space: float = 0.05, time: float = 2.0) -> MotionField:
    """The motion without what is small or brief; the anchor frame stays where it is.

    Each value becomes that of a line through its neighbours, weighted by a Gaussian: `space` is its
    standard deviation in heights of the frame, `time` in frames, and 0 leaves as it is. Affine and
    steady motions stay (local linear regression: Fan, JASA 1992). Raises FieldError for a
    deviation below 0.
    """
    if not (0 <= space < math.inf and 0 <= time < math.inf):
        raise FieldError(
            f"space is {space:g} and time {time:g}, but a motion is smoothed over 0 or more."
        )
    rows, columns = field.cells
    moved = field.displacement.double()
    in_time = _lines(torch.tensor(field.times).double(), time)
    down = _lines((torch.arange(rows) / rows).double(), space)
    across = _lines((torch.arange(columns) / columns).double(), space / field.aspect)
    smooth = torch.einsum("gf,fcyx,hy,wx->gchw", in_time, moved, down, across)
    anchor = int(moved.abs().mean((1, 2, 3)).argmin())
    return field.replaced((smooth + (moved - smooth)[anchor]).float())


def _lines(at: Tensor, deviation: float) -> Tensor:
    """What gives the value of a line through neighbours, (K, K), for values at K places."""
    identity = torch.eye(len(at), dtype=at.dtype)
    if deviation <= 0 or len(at) < 2:
        return identity
    apart = at - at[:, None]  # (K, K): from the place to its neighbours
    weight = torch.exp(-0.5 * (apart / deviation) ** 2)
    total, first, second = ((weight * apart**power).sum(1, keepdim=True) for power in range(3))
    spread = total * second - first**2
    line = weight * (second - first * apart) / spread
    return torch.where(spread > 1e-9 * second.clamp_min(1e-30) * total, line, identity)
