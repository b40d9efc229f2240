"""Where a motion takes the places of the anchor frame: the inverse of a field, by Newton's method.

A fixed-point iteration diverges where content turns by a quarter or grows to twice its size.
"""

# N places (x, y) in shares of the frame, H W rows and columns of cells, C channels

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

STEPS = 12  # of Newton's method
FARTHEST = 0.1  # shares of the frame that a step goes


def places_of(displacement: Tensor, points: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Places (N, 2) where the content of points (N, 2) of the anchor frame is, and errors (N,).

    It solves place + displacement(place) = point, from the places of `start` (N, 2). The error is
    the distance that is left, in shares of the frame. Displacements (2, H, W) go on beyond the
    frame as they are at its border.
    """
    place = start
    for _ in range(STEPS):
        error = place + at_places(displacement, place) - points
        turn = torch.linalg.pinv(_slope(displacement, place), rtol=0.1)
        place = place - (turn @ error[..., None])[..., 0].clamp(-FARTHEST, FARTHEST)
    error = place + at_places(displacement, place) - points
    return place, error.norm(dim=1)


def at_places(values: Tensor, places: Tensor) -> Tensor:
    """Values (C, H, W) at places (N, 2), interpolated between cells: (N, C)."""
    look = (places * 2 - 1)[None, None]
    found = functional.grid_sample(
        values[None], look.to(values), padding_mode="border", align_corners=False
    )
    return found[0, :, 0].T


def _slope(displacement: Tensor, places: Tensor) -> Tensor:
    """The derivative (N, 2, 2) of place + displacement(place), over a cell to each side."""
    columns = []
    for axis, cells in enumerate(reversed(displacement.shape[-2:])):
        step = torch.zeros(2)
        step[axis] = 1 / cells
        change = at_places(displacement, places + step) - at_places(displacement, places - step)
        columns.append(change * cells / 2 + step.sign())
    return torch.stack(columns, dim=-1)
