"""Fields in closed form: content that moves by an affine map about the centre of the frame."""

# F times, H W rows and columns of cells

from __future__ import annotations

import math

import torch
from torch import Tensor

from ditflow.fields.field import FieldSource, MotionField, cell_places

CELLS, TIMES = (24, 32), (0.0, 4.0, 8.0)
FRAMES, ASPECT = 9, 1.5


def moving(
    shift: tuple[float, float] = (0, 0), zoom: float = 1.0, degrees: float = 0.0
) -> MotionField:
    """Content that grows by `zoom`, turns clockwise and then moves by `shift`, in heights.

    At the last time; at half the time it has shifted half as far, turned half and grown to the
    root.
    """
    sides = torch.tensor([ASPECT, 1.0])
    now = (cell_places(*CELLS) - 0.5).movedim(0, -1) * sides  # (H, W, 2)
    fields = []
    for share in (0.0, 0.5, 1.0):
        was = (now - torch.tensor(shift) * share) @ _map(zoom**share, degrees * share).inverse().mT
        fields.append(((was - now) / sides).movedim(-1, 0))
    return field(torch.stack(fields))


def field(displacement: Tensor) -> MotionField:
    """A field of that displacement (3, 2, H, W), wholly trusted."""
    trust = torch.ones(len(displacement), *displacement.shape[-2:])
    return MotionField(displacement, trust, TIMES, FRAMES, ASPECT, FieldSource("exact", "a"))


def _map(zoom: float, degrees: float) -> Tensor:
    """x right, y down: a positive angle turns the right to the bottom, which is clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[cos, -sin], [sin, cos]]) * zoom
