"""How far the field of a clip of the world is from the clip's exact motion."""

# F latent frames

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.synthetic import SyntheticClip
from ditflow.core.sizes import Compression
from ditflow.fields.field import MotionField, resized

TOKENS, TIMES = 8, Compression().latent_times(25)


def end_point_error(clip: SyntheticClip, field: MotionField) -> Tensor:
    """In tokens (F - 1, 8, 8), in all cells, followed or filled; the first frame is left out."""
    cells = TOKENS, TOKENS
    found = field.resampled(TIMES, cells, 25).displacement
    near = [[clip.flow(int(t), 0), clip.flow(int(t + 0.5), 0)] for t in TIMES]  # 2.5 -> 2 and 3
    exact = torch.stack([torch.stack(pair).mean(0) / clip.size.height for pair in near])
    return (TOKENS * (found - resized(exact, cells))).norm(dim=1)[1:]
