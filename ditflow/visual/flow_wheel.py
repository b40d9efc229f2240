"""Displacement as colour: the hue is the direction, the saturation the length.

Red is right, and clockwise (x right, y down) yellow-green is down, cyan left, violet up. White is
no displacement, and full saturation is a length of `reach` or more: pictures with one reach can be
compared. The distance between two fields has its own scale, from white through orange to dark red.
"""

# F latent frames, H W token rows and columns, Y X pixel rows and columns; displacement is (dx, dy),
# x right, y down
from __future__ import annotations

import math

import torch
from torch import Tensor

DISTANCE_SCALE = (
    (255, 255, 255),
    (253, 174, 97),
    (215, 48, 31),
    (90, 0, 20),
)  # red green blue at 0, 1/3, 2/3 and all of the reach


def flow_colours(flow: Tensor, reach: float) -> Tensor:
    """Colours uint8 (..., 3, Y, X) of a displacement field (..., 2, Y, X). `reach`, in the unit of
    the field, is the length at full saturation.
    """
    _check(reach)
    dx, dy = flow.float().unbind(-3)
    hue = torch.atan2(dy, dx) / (2 * math.pi) % 1
    saturation = (torch.hypot(dx, dy) / reach).clamp(max=1)
    channels = [1 - saturation * (1 - _ramp(hue + shift)) for shift in (0, 2 / 3, 1 / 3)]
    return (torch.stack(channels, -3) * 255).round().to(torch.uint8)


def distance_colours(flow: Tensor, reference: Tensor, reach: float) -> Tensor:
    """Colours uint8 (..., 3, Y, X) of the length of `flow - reference`, both (..., 2, Y, X): white
    where they agree, dark red from `reach` on.
    """
    _check(reach)
    distance = torch.linalg.vector_norm(flow.float() - reference.float(), dim=-3)
    place = (distance / reach).clamp(max=1) * (len(DISTANCE_SCALE) - 1)
    below = place.floor().clamp(max=len(DISTANCE_SCALE) - 2)
    scale = torch.tensor(DISTANCE_SCALE, dtype=torch.float32, device=flow.device)
    colours = torch.lerp(
        scale[below.long()], scale[below.long() + 1], (place - below)[..., None]
    )  # (..., Y, X, 3)
    return colours.round().to(torch.uint8).movedim(-1, -3)


def wheel(size: int) -> Tensor:
    """The legend of directions: uint8 (4, size, size), red green blue and opacity. It shows each
    direction and length up to the reach, and is transparent outside the disc.
    """
    axis = torch.linspace(-1, 1, size)
    field = torch.stack([axis.expand(size, size), axis[:, None].expand(size, size)])
    opacity = (field.norm(dim=0) <= 1).to(torch.uint8)[None] * 255
    return torch.cat([flow_colours(field, 1.0), opacity])


def distance_scale(width: int, height: int) -> Tensor:
    """The legend of distances: uint8 (3, height, width), from 0 at the left to the reach at the
    right.
    """
    field = torch.stack(
        [torch.linspace(0, 1, width).expand(height, width), torch.zeros(height, width)]
    )
    return distance_colours(field, torch.zeros_like(field), 1.0)


def _check(reach: float) -> None:
    if not reach > 0:
        raise ValueError(
            f"reach is {reach}, but the length at full saturation must be positive; "
            "take the largest displacement, or 1"
        )


def _ramp(hue: Tensor) -> Tensor:
    """Red of a fully saturated colour with a hue in turns: 1 up to a sixth of a turn from 0, 0 from
    a third of a turn on, linear between.
    """
    return ((hue % 1 * 6 - 3).abs() - 1).clamp(0, 1)
