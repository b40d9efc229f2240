"""The descriptor of a motion: a vector of one length for all clips, whose products are likeness."""

# F times, H W rows and columns of cells, D = 2 * F * H * W numbers

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ditflow.fields.field import MotionField

PARTS, CELLS = 4, (6, 6)  # of a clip's time and of its frame
LENGTH = 2 * PARTS * CELLS[0] * CELLS[1]
VERSION = 1  # of descriptors: a change that gives other ones raises it
STILL = 1e-3  # heights of the frame that content moves in a part, as a root mean square


def descriptor(field: MotionField) -> Tensor:
    """A motion as float32 (D,) of norm 1, or zeros where nothing moves.

    It says how far content moves in each part of the clip's time, in heights of the frame, on a
    coarse grid. The product of two descriptors is the cosine of the motions: 1 for the same motion
    at any speed, 0 for unrelated ones, -1 for the opposite one.
    """
    import torch

    times = [part * (field.frames - 1) / PARTS for part in range(PARTS + 1)]
    moved = -field.resampled(times, CELLS, field.frames).displacement.diff(dim=0)  # (F, 2, H, W)
    vector = (moved * torch.tensor([field.aspect, 1.0])[:, None, None]).flatten()
    norm = float(vector.norm())
    if not STILL * (LENGTH / 2) ** 0.5 <= norm < math.inf:
        return torch.zeros_like(vector)
    return vector / norm
