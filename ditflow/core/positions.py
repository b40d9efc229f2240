"""Rotary position embeddings: tables from positions, and rotation out of place.

A table is built where it is used and never written to: it is what is optimised.
"""

# B batch (b: 1 or B), N video tokens, A heads, D head dim

from __future__ import annotations

import torch
from torch import Tensor

THETA = 10000.0


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring pairs of channels of x (B, N, A, D) by tables (b, N, 1, D), in at least
    float32; returns x's dtype.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    real, imaginary = wide.reshape(*wide.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    return (wide * cos + turned * sin).to(x.dtype)


def rotary_frequencies(
    head_dim: int, theta: float = THETA, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Radians per token along t, y and x: a quarter of the channels turns with time, three eighths
    with each of the others.
    """
    time, space = head_dim // 4, head_dim // 8 * 3
    return (
        _frequencies(time, theta, device),
        _frequencies(space, theta, device),
        _frequencies(space, theta, device),
    )


def rotary_tables(positions: Tensor, head_dim: int, theta: float = THETA) -> Tensor:
    """Positions (..., N, 3) of (t, y, x) -> tables (..., 2, N, D) of [cos, sin], differentiable.
    Stock positions give the stock table bit by bit.
    """
    frequencies = rotary_frequencies(head_dim, theta, positions.device)
    angles = torch.cat(
        [
            axis[..., None] * frequency
            for axis, frequency in zip(positions.unbind(-1), frequencies, strict=True)
        ],
        dim=-1,
    )
    return torch.stack([angles.cos(), angles.sin()], dim=-3).repeat_interleave(2, dim=-1)


def _frequencies(channels: int, theta: float, device: torch.device | str | None) -> Tensor:
    return 1.0 / theta ** (
        torch.arange(0, channels, 2, dtype=torch.float32, device=device) / channels
    )
