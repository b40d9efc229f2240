"""Displacement as colour: the hue is the direction, the saturation the length.

Red points right, then with the clock (x right, y down): yellow-green down, cyan left, violet up. No displacement is white, `reach` and more is fully saturated,
so pictures with one reach can be compared.
"""

# F latent frames, H W token rows and columns, S = H*W, Y X pixel rows and columns; displacement is (dx, dy), x right, y down
from __future__ import annotations

import math

import torch
from torch import Tensor

from ditflow.grid import TokenGrid


def flow_colours(flow: Tensor, reach: float) -> Tensor:
    """Colours uint8 (..., 3, Y, X) of a displacement field (..., 2, Y, X); `reach`, in the unit of the field, is the length of full saturation."""
    if not reach > 0:
        raise ValueError(f"reach is {reach}, but the length of full saturation must be positive; take the largest displacement, or 1")
    dx, dy = flow.float().unbind(-3)
    hue = torch.atan2(dy, dx) / (2 * math.pi) % 1
    saturation = (torch.hypot(dx, dy) / reach).clamp(max=1)
    channels = [1 - saturation * (1 - _ramp(hue + shift)) for shift in (0, 2 / 3, 1 / 3)]
    return (torch.stack(channels, -3) * 255).round().to(torch.uint8)


def flow_strip(displacement: Tensor, grid: TokenGrid, reach: float) -> Tensor:
    """Attention motion flow (F, F, S, 2), in tokens, as images from the first frame to each later one, left to right: uint8 (3, H, (F-1)*(W+1) - 1)."""
    field = displacement[0, 1:].transpose(-1, -2).unflatten(-1, (grid.height, grid.width))  # (F-1, 2, H, W)
    images = flow_colours(field, reach)
    spaced = torch.nn.functional.pad(images, (0, 1), value=255)
    return spaced.permute(1, 2, 0, 3).flatten(2)[..., :-1]


def wheel(size: int) -> Tensor:
    """The legend: uint8 (4, size, size), red green blue and opacity: the colour of each direction and length up to the reach, transparent outside the disc."""
    axis = torch.linspace(-1, 1, size)
    field = torch.stack([axis.expand(size, size), axis[:, None].expand(size, size)])
    opacity = (field.norm(dim=0) <= 1).to(torch.uint8)[None] * 255
    return torch.cat([flow_colours(field, 1.0), opacity])


def _ramp(hue: Tensor) -> Tensor:
    """Red of a fully saturated colour with a hue in turns: 1 up to a sixth of a turn from 0, 0 from a third on, linear between."""
    return ((hue % 1 * 6 - 3).abs() - 1).clamp(0, 1)
