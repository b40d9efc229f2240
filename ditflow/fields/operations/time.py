"""A motion in time: from another frame, backwards, slower and shorter."""

# F times, H W rows and columns of cells; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ditflow.fields.field import FieldError, MotionField, cell_places, looked_up
from ditflow.fields.inversion import places_of
from ditflow.fields.operations.base import check_factor, continued, inside, trust_at

CLOSE = 0.02  # shares of the frame: an inverse that is farther off has found nothing


def anchored(field: MotionField, index: int) -> MotionField:
    """The same motion told from another frame: that at index of the F times, below 0 from the end.

    Content whose place in the new anchor frame is not known gets confidence 0. Raises FieldError
    for an index beyond the times.
    """
    count = len(field.times)
    if not -count <= index < count:
        raise FieldError(f"the field has {count} times; there is no index {index} among them.")
    anchor = index % count
    if not field.displacement[anchor].any():
        return field
    there, trust = _inverse(field, anchor)
    there = there[None].expand_as(field.displacement)
    trust = trust[None].expand_as(field.confidence)
    moved = field.displacement + looked_up(there, field.displacement)
    trust = torch.minimum(field.confidence, trust_at(trust, field.displacement))
    return field.replaced(continued(moved, inside(field.displacement)), trust)


def reversed_in_time(field: MotionField) -> MotionField:
    """The video played backwards: the last time becomes the first, and the anchor. What holds still
    at its end does so at its beginning.
    """
    last = anchored(field, -1)
    times = tuple(field.frames - 1 - time for time in reversed(field.times))
    backwards = last.replaced(last.displacement.flip(0), last.confidence.flip(0))
    return replace(backwards, times=times)


def slowed(field: MotionField, factor: float) -> MotionField:
    """The motion in a video that is `factor` times as long: each time comes so much later.

    Its `frames` become factor * (frames - 1) + 1, rounded. `resampled` to that length keeps the
    pace; to another length it spreads the whole motion again, which `paced` does not. Below 1 it is
    faster. Raises FieldError for a factor that is not above 0 or changes no whole frame.
    """
    check_factor(factor)
    frames = max(round((field.frames - 1) * factor), 1) + 1
    if frames == field.frames and factor != 1:
        raise FieldError(
            f"slowed by {factor:g}, a motion of {frames} frames still has {frames}: take a factor "
            "that is farther from 1."
        )
    stretch = (frames - 1) / max(field.frames - 1, 1)
    times = tuple(min(time * stretch, frames - 1.0) for time in field.times)
    return replace(field, times=times, frames=frames)


def paced(field: MotionField, factor: float) -> MotionField:
    """The motion, `factor` times as slow, in a video of the same length.

    Above 1 the video ends before the motion does. Below 1 it holds still when the motion has ended.
    Raises FieldError for a factor that is not above 0.
    """
    check_factor(factor)
    times = tuple(time * factor for time in field.times)
    longer = replace(field, times=times, frames=max(field.frames, math.ceil(times[-1]) + 1))
    return trimmed(longer, field.frames)


def trimmed(field: MotionField, frames: int) -> MotionField:
    """The motion of the first `frames` of the video alone.

    Raises FieldError for fewer than 2 frames, or more than there are.
    """
    if not 2 <= frames <= field.frames:
        raise FieldError(
            f"a motion of {field.frames} frames is trimmed to 2 of them at least, or "
            f"all, not to {frames}."
        )
    times = [*(time for time in field.times if time < frames - 1), frames - 1.0]
    return replace(field.resampled(times, field.cells, field.frames), frames=frames)


def _inverse(field: MotionField, anchor: int) -> tuple[Tensor, Tensor]:
    """From places of the anchor frame to those at another time: (2, H, W), confidence (H, W)."""
    points = cell_places(*field.cells).flatten(1).mT
    place, error = points, points.new_zeros(len(points))
    for moved in field.displacement[: anchor + 1]:
        place, error = places_of(moved, points, place)
    there = (place - points).mT.reshape(1, 2, *field.cells)
    known = inside(there) & (error < CLOSE).view(1, *field.cells)
    trust = trust_at(field.confidence[[anchor]], there) * known
    return continued(there, known)[0], trust[0]
