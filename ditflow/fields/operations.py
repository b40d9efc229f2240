"""What can be done with a motion: each operation gives a new field, and leaves the old as it is.

A field maps places now to places in its anchor frame. Where an operation asks beyond the frame, it
goes on with the camera's affine motion, and the confidence is 0. Operations on two fields take the
second to the times and cells of the first, and the lower confidence. What makes no sense raises
FieldError.
"""

# F times, H W rows and columns of cells; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ditflow.fields.field import FieldError, MotionField, cell_places, looked_up
from ditflow.fields.fill import affine_motion, filled
from ditflow.fields.inversion import places_of

CLOSE = 0.02  # shares of the frame: an inverse that is farther off has found nothing


def scaled(field: MotionField, amount: float) -> MotionField:
    """A motion that goes `amount` as far: 0 is still, and below 0 it goes the other way."""
    _check_finite("scaled by a number", amount)
    return field.replaced(field.displacement * amount)


def added(first: MotionField, second: MotionField) -> MotionField:
    """A motion whose displacements are the sum of both, cell by cell."""
    second = _like(first, second)
    trust = torch.minimum(first.confidence, second.confidence)
    return first.replaced(first.displacement + second.displacement, trust)


def composed(first: MotionField, second: MotionField) -> MotionField:
    """A motion that moves all content as the first does, and what comes of it as the second does.

    Content that is here now came by the second from a place to which the first had brought it.
    """
    second = _like(first, second)
    by = second.displacement
    before = _known(looked_up(first.displacement, by), _inside(by))
    trust = torch.minimum(second.confidence, _trust_at(first.confidence, by))
    return first.replaced(by + before, trust)


def split(field: MotionField) -> tuple[MotionField, MotionField]:
    """The camera's motion, and the rest: `added(camera, rest)` is the field again.

    The camera's is the affine motion of each time that most of the trusted cells agree with. To
    give a field another camera, add another's camera to its rest.
    """
    camera = affine_motion(field.displacement, field.confidence)
    return field.replaced(camera), field.replaced(field.displacement - camera)


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
    trust = torch.minimum(field.confidence, _trust_at(trust, field.displacement))
    return field.replaced(_known(moved, _inside(field.displacement)), trust)


def reversed_in_time(field: MotionField) -> MotionField:
    """The motion played backwards: the last time becomes the first, and the anchor."""
    last = anchored(field, -1)
    times = tuple(field.times[-1] + field.times[0] - time for time in reversed(field.times))
    backwards = last.replaced(last.displacement.flip(0), last.confidence.flip(0))
    return replace(backwards, times=times)


def mirrored(
    field: MotionField, across: Literal["left-right", "top-bottom"] = "left-right"
) -> MotionField:
    """The motion in a mirror that changes left and right, or top and bottom."""
    if across not in ("left-right", "top-bottom"):
        raise FieldError(f"a field is mirrored left-right or top-bottom, not {across!r}.")
    axis = -1 if across == "left-right" else -2
    sign = torch.tensor([-1.0, 1.0] if axis == -1 else [1.0, -1.0])[:, None, None]
    return field.replaced(field.displacement.flip(axis) * sign, field.confidence.flip(axis))


def rotated(field: MotionField, degrees: float) -> MotionField:
    """The motion as if the picture had been turned clockwise about the frame's centre."""
    _check_finite("rotated by a number of degrees", degrees)
    turn, sides = _turn(degrees), torch.tensor([field.aspect, 1.0])
    places = cell_places(*field.cells) - 0.5
    back = _by(turn.mT, places[None], sides) - places  # to where a cell was before the turn
    back = back.expand_as(field.displacement)
    moved = _by(turn, looked_up(field.displacement, back), sides)
    return field.replaced(_known(moved, _inside(back)), _trust_at(field.confidence, back))


def slowed(field: MotionField, factor: float) -> MotionField:
    """The motion in a video that is `factor` times as long: each time comes so much later.

    Its `frames` become factor * (frames - 1) + 1, rounded. `resampled` to that length keeps the
    pace; to another length it spreads the whole motion again, which `paced` does not. Below 1 it is
    faster. Raises FieldError for a factor that is not above 0 or changes no whole frame.
    """
    if not (factor > 0 and math.isfinite(factor)):
        raise FieldError(f"a motion is slowed by a factor above 0, not by {factor:g}.")
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
    Raises FieldError as `slowed` does.
    """
    slow = slowed(field, factor)
    if slow.frames >= field.frames:
        return trimmed(slow, field.frames)
    return replace(slow, frames=field.frames)


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


def smoothed(field: MotionField, space: float = 0.05, time: float = 2.0) -> MotionField:
    """The motion without what is small or brief; the anchor frame stays where it is.

    Each value becomes that of a line through its neighbours, weighted by a Gaussian: `space` is its
    standard deviation in heights of the frame, `time` in frames, and 0 leaves as it is. Affine and
    steady motions stay (local linear regression: Fan, JASA 1992). Raises FieldError for a
    deviation below 0.
    """
    if not (0 <= space < math.inf and 0 <= time < math.inf):
        raise FieldError(
            f"space is {space:g} and time {time:g}, but a motion is smoothed over 0 or more."
        )
    rows, columns = field.cells
    moved = field.displacement.double()
    in_time = _lines(torch.tensor(field.times).double(), time)
    down = _lines((torch.arange(rows) / rows).double(), space)
    across = _lines((torch.arange(columns) / columns).double(), space / field.aspect)
    smooth = torch.einsum("gf,fcyx,hy,wx->gchw", in_time, moved, down, across)
    anchor = int(moved.abs().mean((1, 2, 3)).argmin())
    return field.replaced((smooth + (moved - smooth)[anchor]).float())


def _check_finite(done: str, number: float) -> None:
    if not math.isfinite(number):
        raise FieldError(f"a motion is {done} that is finite, not by {number:g}.")


def _like(first: MotionField, second: MotionField) -> MotionField:
    """The second field at the times and on the cells of the first."""
    same = (first.times, first.cells, first.frames) == (second.times, second.cells, second.frames)
    return second if same else second.resampled(first.times, first.cells, first.frames)


def _inverse(field: MotionField, anchor: int) -> tuple[Tensor, Tensor]:
    """From places of the anchor frame to those at another time: (2, H, W), confidence (H, W)."""
    points = cell_places(*field.cells).flatten(1).mT
    place, error = points, points.new_zeros(len(points))
    for moved in field.displacement[: anchor + 1]:
        place, error = places_of(moved, points, place)
    there = (place - points).mT.reshape(1, 2, *field.cells)
    known = _inside(there) & (error < CLOSE).view(1, *field.cells)
    trust = _trust_at(field.confidence[[anchor]], there) * known
    return _known(there, known)[0], trust[0]


def _inside(displacement: Tensor) -> Tensor:
    """Whether each cell's displacement points into the frame: bool (F, H, W)."""
    rows, columns = displacement.shape[-2:]
    places = cell_places(rows, columns) + displacement
    margin = torch.tensor([0.5 / columns, 0.5 / rows])[:, None, None] - 1e-5  # centres of the rim
    return ((places >= margin) & (places <= 1 - margin)).all(1)


def _known(displacement: Tensor, known: Tensor) -> Tensor:
    """Displacements, filled in by the camera's motion where they are not known (F, H, W)."""
    return torch.where(known[:, None], displacement, filled(displacement, known.float()))


def _trust_at(confidence: Tensor, displacement: Tensor) -> Tensor:
    """Confidence (F, H, W) at the places that displacements point to, 0 beyond the frame."""
    found = looked_up(confidence[:, None], displacement)[:, 0]
    return found.clamp(0, 1) * _inside(displacement)


def _turn(degrees: float) -> Tensor:
    """A clockwise turn (2, 2): x right, y down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[cos, -sin], [sin, cos]])


def _by(turn: Tensor, values: Tensor, sides: Tensor) -> Tensor:
    """Vectors (F, 2, H, W) in shares of the frame, turned in its true proportions."""
    turn = turn * sides / sides[:, None]
    return torch.einsum("ij,fjyx->fiyx", turn, values)


def _lines(at: Tensor, deviation: float) -> Tensor:
    """What gives the value of a line through neighbours, (K, K), for values at K places."""
    identity = torch.eye(len(at), dtype=at.dtype)
    if deviation <= 0 or len(at) < 2:
        return identity
    apart = at - at[:, None]  # (K, K): from the place to its neighbours
    weight = torch.exp(-0.5 * (apart / deviation) ** 2)
    total, first, second = ((weight * apart**power).sum(1, keepdim=True) for power in range(3))
    spread = total * second - first**2
    line = weight * (second - first * apart) / spread
    return torch.where(spread > 1e-9 * second.clamp_min(1e-30) * total, line, identity)
