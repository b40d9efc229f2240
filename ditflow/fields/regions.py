"""The motion of a part of the frame."""

# F times, H W rows and columns of cells; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

from torch import Tensor

from ditflow.fields.field import FieldError, MotionField, cell_places, looked_up, resized

Box = tuple[float, float, float, float]  # left, top, right, bottom, in shares of the frame


def restricted(field: MotionField, region: Tensor | Box, *, moving: bool = False) -> MotionField:
    """The motion in a region of the frame only, where nothing moves outside of it.

    `region` is a mask (H, W) from 0 to 1 of any size, or a box (left, top, right, bottom) in shares
    of the frame. It stays where it is at all times. With `moving` it is a region of the anchor
    frame, and goes along with the content that is in it there. Raises FieldError for a region of
    another shape, beyond 0 to 1, or empty.
    """
    if isinstance(region, Tensor):
        mask = _of_mask(region, field.cells)
    else:
        mask = _of_box(region, field.cells)
    if moving:
        masks = mask.expand(len(field.times), 1, *field.cells)
        mask = looked_up(masks, field.displacement, border=False)
    return field.replaced(field.displacement * mask)


def _of_mask(mask: Tensor, cells: tuple[int, int]) -> Tensor:
    """(H, W) on the cells."""
    if mask.ndim != 2 or 0 in mask.shape:
        raise FieldError(f"a region is a mask (H, W), not of shape {tuple(mask.shape)}.")
    if not ((mask >= 0) & (mask <= 1)).all():
        raise FieldError("a mask goes from 0, outside, to 1, inside; this one goes beyond.")
    return resized(mask[None, None].float(), cells)[0, 0]


def _of_box(box: Box, cells: tuple[int, int]) -> Tensor:
    """(H, W): 1 in the cells whose centre is in the box, else 0."""
    if len(box) != 4 or not all(0 <= place <= 1 for place in box):
        told = "a box is (left, top, right, bottom) in shares of the frame, from 0 to 1"
        raise FieldError(f"{told}, not {tuple(box)}.")
    left, top, right, bottom = box
    if not (left < right and top < bottom):
        raise FieldError(f"a box is (left, top, right, bottom); {tuple(box)} is empty.")
    x, y = cell_places(*cells)
    inside: Tensor = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return inside.float()
