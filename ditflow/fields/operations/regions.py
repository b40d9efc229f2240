"""The motion of a part of the frame."""

# F times, H W rows and columns of cells; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

import torch
from torch import Tensor

from ditflow.fields.field import FieldError, MotionField, looked_up, resized
from ditflow.fields.operations.base import together

Box = tuple[float, float, float, float]  # left, top, right, bottom, in shares of the frame
LEAST = 0.05  # of a cell: a region that covers no more of any leaves nothing to be seen


def restricted(field: MotionField, region: Tensor | Box, *, moving: bool = False) -> MotionField:
    """The motion in a region of the frame only, where nothing moves outside of it.

    `region` is a mask (H, W) from 0 to 1 of any size, or a box (left, top, right, bottom) in shares
    of the frame. It stays where it is at all times. With `moving` it is a region of the anchor
    frame, and goes along with the content that is in it there. Raises FieldError for a region of
    another shape, beyond 0 to 1, or so small that it covers hardly anything of any cell.
    """
    return field.replaced(field.displacement * _within(field, region, moving))


def parted(
    inside: MotionField, outside: MotionField, region: Tensor | Box, *, moving: bool = False
) -> MotionField:
    """One motion in a region of the frame, and another in the rest.

    `region` is as for `restricted`; with `moving` it goes along with the motion inside. Both are
    taken to the times of both, on the cells of the motion inside.
    """
    inside, outside = together(inside, outside)
    mask = _within(inside, region, moving)
    trust = torch.lerp(outside.confidence, inside.confidence, mask[:, 0])
    return inside.replaced(torch.lerp(outside.displacement, inside.displacement, mask), trust)


def region_mask(region: Tensor | Box, cells: tuple[int, int]) -> Tensor:
    """How much of each of (H, W) cells is in a region, from 0 to 1. Raises FieldError as
    `restricted` does.
    """
    mask = _of_mask(region, cells) if isinstance(region, Tensor) else _of_box(region, cells)
    if (most := float(mask.max())) < LEAST:
        raise FieldError(
            f"a region covers {most:.2g} at most of any of {cells[0]} x {cells[1]} cells, so "
            "nothing would move: take a larger one."
        )
    return mask


def _within(field: MotionField, region: Tensor | Box, moving: bool) -> Tensor:
    """How much of each cell is in a region at each time: (F, 1, H, W)."""
    mask = region_mask(region, field.cells).expand(len(field.times), 1, *field.cells)
    return looked_up(mask, field.displacement, border=False) if moving else mask


def _of_mask(mask: Tensor, cells: tuple[int, int]) -> Tensor:
    """(H, W) on the cells."""
    if mask.ndim != 2 or 0 in mask.shape:
        raise FieldError(f"a region is a mask (H, W), not of shape {tuple(mask.shape)}.")
    if not ((mask >= 0) & (mask <= 1)).all():
        raise FieldError("a mask goes from 0, outside, to 1, inside; this one goes beyond.")
    return resized(mask[None, None].float(), cells)[0, 0]


def _of_box(box: Box, cells: tuple[int, int]) -> Tensor:
    """(H, W): the share of each cell that is in the box."""
    if len(box) != 4 or not all(0 <= place <= 1 for place in box):
        told = "a box is (left, top, right, bottom) in shares of the frame, from 0 to 1"
        raise FieldError(f"{told}, not {tuple(box)}.")
    left, top, right, bottom = box
    if not (left < right and top < bottom):
        raise FieldError(f"a box is (left, top, right, bottom); {tuple(box)} is empty.")
    return _covered(top, bottom, cells[0])[:, None] * _covered(left, right, cells[1])


def _covered(start: float, end: float, count: int) -> Tensor:
    """The share of each of `count` equal parts, (count,), that is between two places."""
    edges = torch.arange(count + 1, dtype=torch.float64) / count
    return (edges.clamp(start, end).diff() * count).clamp(0, 1).float()
