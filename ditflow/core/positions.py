"""Position embeddings: tables from positions, and rotation out of place.

A table may be the variable that is optimised, so it is built where it is used and never written to.
"""

# B batch (b: 1 or B), N video tokens, A heads, D head dim

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

Side = Literal[0, 1]  # of a rotary position: 0 query, 1 key


class Positions(NamedTuple):
    """Where the tokens are in each pass of classifier-free guidance.

    A position is a model's own tensor, as `Model` says; None means where the model puts them
    itself. With a `motion_scale` the difference that the conditional position makes is scaled by
    it, in a third pass, instead of by the guidance scale:
    u + guidance_scale * (c0 - u) + motion_scale * (c - c0), where c0 is the conditional pass with
    the unconditional position.
    """

    conditional: Tensor | None = None
    unconditional: Tensor | None = None
    motion_scale: float | None = None

    @classmethod
    def everywhere(cls, position: Tensor | None) -> Self:
        """The same position in both passes."""
        return cls(position, position)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring pairs of channels of x (B, N, A, D) by tables (b, N, 1, D).

    It computes in float32 or wider, and returns the dtype of x.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    real, imaginary = wide.reshape(*wide.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    return (wide * cos + turned * sin).to(x.dtype)


def tables_of(
    rotary: Tensor | tuple[Tensor, Tensor], side: Side, device: torch.device
) -> tuple[Tensor, Tensor]:
    """cos and sin (b, N, A or 1, D).

    From a position (b, 2, 2, N, D) or (b, 2, 2, N, A, D), or from the model's own pair of (N, D) or
    (b, N, 1, D).
    """
    pair = rotary[:, side].unbind(1) if isinstance(rotary, Tensor) else rotary
    rows = [table[None] if table.ndim == 2 else table for table in pair]
    cos, sin = (table[:, :, None] if table.ndim == 3 else table for table in rows)
    return cos.to(device), sin.to(device)


def rotary_frequencies(
    channels: int,
    theta: float = 10000.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Radians per token (channels / 2,) of the channels that turn along one axis."""
    exponents = torch.arange(0, channels, 2, dtype=dtype, device=device) / channels
    return 1.0 / theta**exponents


def rotary_tables(positions: Tensor, frequencies: Sequence[Tensor]) -> Tensor:
    """Tables (..., 2, N, D) of [cos, sin] for positions (..., N, 3) of (t, y, x).

    `frequencies` are those of the three axes, whose channels lie one after the other. Angles are
    computed in their dtype. Differentiable.
    """
    axes = zip(positions.unbind(-1), frequencies, strict=True)
    angles = torch.cat([axis[..., None] * frequency for axis, frequency in axes], dim=-1)
    tables = torch.stack([angles.cos(), angles.sin()], dim=-3).repeat_interleave(2, dim=-1)
    return tables.to(torch.promote_types(positions.dtype, torch.float32))


def sinusoids(positions: Tensor, frequencies: Tensor) -> Tensor:
    """Sinusoidal embeddings (..., E) of positions (...) along one axis: all sines, then cosines.

    `frequencies` are (E / 2,) in radians. Differentiable.
    """
    angles = positions[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(positions.dtype)
