"""Positions that follow a motion: each token is told the place where its content was.

Tokens that show the same content then have the same place, so attention prefers them, and what a
model draws moves along. Warping rotary positions by optical flow is the idea of RoPECraft (Gokmen
et al., 2505.13344), which uses it to begin an optimisation.
"""

# F token times, H W token rows and columns, N = F*H*W video tokens

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ditflow.core.sizes import Compression, TokenGrid, VideoSize
from ditflow.fields.field import MotionField


def on_tokens(fields: Sequence[MotionField], compression: Compression, size: VideoSize) -> Tensor:
    """Displacements (B, F, 2, H, W) of fields on the tokens of a video."""
    grid, times = compression.grid(size), compression.token_times(size.frames)
    cells = (grid.height, grid.width)
    moved = [field.resampled(times, cells, size.frames).displacement for field in fields]
    return torch.stack(moved)


def displaced(stock: Tensor, displacement: Tensor, amount: float = 1.0) -> Tensor:
    """Positions (..., N, 3) of (t, y, x), moved along displacements (..., F, 2, H, W).

    `stock` (N, 3) are a model's own positions of the tokens; a displacement of (dx, dy) is in
    shares of the frame. `amount` 0 gives the model's own.
    """
    frames, _, rows, columns = displacement.shape[-4:]
    grid = TokenGrid(frames, rows, columns)
    assert len(stock) == grid.tokens, "the field was resampled to the token grid"
    places = stock.view(frames, rows, columns, 3)
    sides = torch.stack([_side(places[0, :, 0, 1]), _side(places[0, 0, :, 2])])  # y, x
    moved = displacement.flip(-3).movedim(-3, -1).flatten(-4, -2) * sides * amount
    return stock + torch.cat([torch.zeros_like(moved[..., :1]), moved], dim=-1)


def _side(places: Tensor) -> Tensor:
    """The length of one side of the frame, in units of the positions along it."""
    count = len(places)
    return count * (places[-1] - places[0]) / (count - 1) if count > 1 else places.new_ones(())
