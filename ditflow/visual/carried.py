"""A texture carried along a motion field: the motion itself, moving, without its clip.

A field says where the content of each place was at the start. So each place shows what the texture
has there: nothing is painted by guess, and of the clip's looks nothing is shown.
"""

# T moments, F times, H W rows and columns of cells, Y X pixel rows and columns
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.fields.field import MotionField, cell_places

CHECKS = 5  # along the height of the frame
SHARP = 6.0  # of the edges of checks; more would flicker
GREY = (165.0, 190.0)  # dark and light checks of what was filled in
PALE = [[[246.0]], [[243.0]], [[234.0]]]  # red, green, blue of light checks
CORNERS = (  # of dark checks: at the top left and right, at the bottom left and right
    ((30.0, 76.0, 140.0), (24.0, 128.0, 116.0)),
    ((196.0, 84.0, 44.0), (128.0, 50.0, 120.0)),
)


def carried(field: MotionField, moments: Sequence[float], shape: tuple[int, int]) -> Tensor:
    """Pictures uint8 (T, 3, Y, X) of a chequered texture that moves as the field says.

    `moments` are in frames of the video. The colour of a check says where it was in the first
    frame: blue, green, orange and purple in its corners. Checks go on beyond the frame. They are
    grey where the motion was filled in rather than followed.
    """
    rows, columns = (min(pair) for pair in zip(field.cells, shape, strict=True))
    small = field.resampled(moments, (rows, columns), field.frames)
    both = torch.cat([small.displacement, small.confidence[:, None]], dim=1)
    both = functional.interpolate(both, shape, mode="bilinear", align_corners=False)
    return _textured(cell_places(*shape) + both[:, :2], both[:, 2], field.aspect)


def _textured(places: Tensor, trust: Tensor, aspect: float) -> Tensor:
    """Pictures of the texture at places (T, 2, Y, X), in shares of the frame, with their trust."""
    x, y = places[:, :1], places[:, 1:]  # (T, 1, Y, X)
    wave = torch.sin(math.pi * CHECKS * aspect * x) * torch.sin(math.pi * CHECKS * y)
    light = (0.5 + SHARP * wave).clamp(0, 1)
    (left, right), across = torch.tensor(CORNERS)[..., None, None].unbind(1), _mirrored(x)
    above, below = (torch.lerp(a, b, across) for a, b in zip(left, right, strict=True))
    coloured = torch.lerp(torch.lerp(above, below, _mirrored(y)), torch.tensor(PALE), light)
    grey = torch.lerp(torch.tensor(GREY[0]), torch.tensor(GREY[1]), light)
    return torch.lerp(grey, coloured, trust[:, None]).round().to(torch.uint8)


def _mirrored(share: Tensor) -> Tensor:
    """A share of the frame as it is, and beyond the frame as in a mirror: colours do not jump."""
    return 1 - (share % 2 - 1).abs()
