"""A motion field on pictures: arrows, paths of points, and how far it is to be trusted.

A field says where the content of each place was at the start. The movement that is drawn is the
opposite: from the start to now, x right, y down, in heights of the frame, so that a length looks
the same in every direction. Paths need the inverse, where each point of the first frame goes.
"""

# F times, H W rows and columns of cells, N points, Y X pixel rows and columns; places are (x, y)
from __future__ import annotations

import colorsys

import cv2
import numpy
import torch
from torch import Tensor
from torch.nn import functional

from ditflow.fields.field import MotionField, resized
from ditflow.fields.inversion import at_places, places_of

LEAST_REACH = 0.02  # heights of the frame; with less, noise would look like motion
TRUSTED = 0.5  # confidence from which on a place counts as followed
SHIFT = 4  # binary digits of OpenCV's fractions of a pixel
DARK = (20, 20, 24)


def movement(field: MotionField) -> Tensor:
    """How the content of each cell has moved since the start: (F, 2, H, W), heights of the frame.

    A pure pan of the content to the right by half a frame's height gives (0.5, 0) everywhere.
    """
    return -field.displacement * torch.tensor([field.aspect, 1.0])[:, None, None]


def reach_of(field: MotionField) -> float:
    """The length that full colour stands for: nearly the longest trusted movement, in heights."""
    lengths = movement(field).norm(dim=1)
    trusted = lengths[field.confidence >= TRUSTED]
    lengths = trusted if trusted.numel() else lengths.flatten()
    return max(LEAST_REACH, float(lengths.sort().values[int(0.99 * (len(lengths) - 1))]))


def followed_share(field: MotionField) -> float:
    """Share of the picture that was followed with confidence, the mean over times."""
    return float((field.confidence >= TRUSTED).float().mean())


def points_on_grid(field: MotionField, across: int = 9) -> Tensor:
    """Points (N, 2) spread evenly over the first frame, `across` along its longer side."""
    step = max(field.aspect, 1.0) / across
    counts = max(1, round(field.aspect / step)), max(1, round(1 / step))
    x, y = ((torch.arange(count) + 0.5) / count for count in counts)
    return torch.cartesian_prod(x, y)


def paths(field: MotionField, points: Tensor) -> tuple[Tensor, Tensor]:
    """Where points (N, 2) of the anchor frame go: places (F, N, 2), and whether they are seen.

    Places are in shares of the frame. A point is seen (F, N) while it is in the frame and its place
    is followed with confidence. It is searched for from the place at the time before.
    """
    place, places, seen = points, [], []
    visible = torch.ones(len(points), dtype=torch.bool)
    for displacement, confidence in zip(field.displacement, field.confidence, strict=True):
        place, error = places_of(displacement, points, place)
        trusted = at_places(confidence[None], place)[:, 0] >= TRUSTED
        inside = ((place >= 0) & (place <= 1)).all(1)
        visible = visible & inside & trusted & (error < 0.02)
        places.append(place)
        seen.append(visible)
    return torch.stack(places), torch.stack(seen)


def arrows_on(
    picture: Tensor, moved: Tensor, confidence: Tensor, reach: float, across: int = 10
) -> Tensor:
    """A picture uint8 (3, Y, X) with arrows of the movement (2, H, W), the longest `reach`.

    The middle of an arrow is where the content is now. They are scaled to fit beside each other.
    They are dark where the movement was filled in rather than followed.
    """
    rows, columns = picture.shape[1:]
    step = max(rows, columns) / across
    cells = max(1, round(rows / step)), max(1, round(columns / step))
    grid = resized(torch.cat([moved, confidence[None]])[None], cells)[0]
    canvas, thick = _canvas(picture), max(1.0, step / 16)
    for row in range(cells[0]):
        for column in range(cells[1]):
            dx, dy, trust = grid[:, row, column].tolist()
            middle = numpy.array(
                [(column + 0.5) / cells[1] * columns, (row + 0.5) / cells[0] * rows]
            )
            half = numpy.array([dx, dy]) / reach * step * 0.45
            colour = (255, 255, 255) if trust >= TRUSTED else (120, 120, 128)
            _arrow(canvas, middle - half, middle + half, colour, thick)
    return _picture(canvas)


def paths_on(picture: Tensor, places: Tensor, seen: Tensor) -> Tensor:
    """A picture uint8 (3, Y, X) with the paths (F, N, 2) of points up to now, a dot at each end.

    The colour says where a point was in the first frame. A path ends where it is lost.
    """
    rows, columns = picture.shape[1:]
    canvas, thick = _canvas(picture), max(rows, columns) / 130
    scale = numpy.array([columns, rows])
    for point in range(places.shape[1]):
        kept = places[: max(1, int(seen[:, point].sum())), point].numpy() * scale
        x, y = places[0, point].tolist()
        colour = tuple(
            round(255 * part) for part in colorsys.hsv_to_rgb(0.85 * x, 0.35 + 0.6 * y, 1)
        )
        line = _fraction(kept)
        for tint, width in ((DARK, 2.6 * thick), (colour, thick)):
            cv2.polylines(canvas, [line], False, tint, max(1, round(width)), cv2.LINE_AA, SHIFT)
        if seen[-1, point]:
            end = tuple(map(int, line[-1]))
            for tint, radius in ((DARK, 2.6 * thick), (colour, 1.8 * thick)):
                cv2.circle(canvas, end, round(radius * 2**SHIFT), tint, -1, cv2.LINE_AA, SHIFT)
    return _picture(canvas)


def confidence_colours(confidence: Tensor) -> Tensor:
    """Colours uint8 (..., 3, Y, X) of a confidence (..., Y, X): dark blue 0, pale yellow 1."""
    low, high = torch.tensor([38.0, 44, 92]), torch.tensor([255.0, 247, 214])
    share = confidence.clamp(0, 1)[..., None]
    return (low + (high - low) * share).round().to(torch.uint8).movedim(-1, -3)


def enlarged(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Values (..., H, W) at the size of a picture, interpolated."""
    flat = values.reshape(1, -1, *values.shape[-2:]).float()
    large = functional.interpolate(flat, shape, mode="bilinear", align_corners=False)
    return large.reshape(*values.shape[:-2], *shape)


def _arrow(
    canvas: numpy.ndarray,
    start: numpy.ndarray,
    end: numpy.ndarray,
    colour: tuple[int, int, int],
    thick: float,
) -> None:
    """One arrow with a dark rim; a dot where it would be shorter than it is thick."""
    way = end - start
    length = float(numpy.hypot(*way))
    if length < 1.5 * thick:
        middle = tuple(map(int, _fraction((start + end) / 2)))
        for tint, radius in ((DARK, 1.5 * thick), (colour, 0.9 * thick)):
            cv2.circle(canvas, middle, round(radius * 2**SHIFT), tint, -1, cv2.LINE_AA, SHIFT)
        return
    along, head = way / length, min(4.5 * thick, 0.6 * length)
    across = numpy.array([-along[1], along[0]])
    neck = end - head * along
    for tint, rim in ((DARK, 0.9 * thick), (colour, 0.0)):
        side, tail = across * (thick / 2 + rim), start - along * rim
        wing, tip = across * (head * 0.55 + 1.4 * rim), end + along * 2 * rim
        base = neck - along * rim
        outline = [
            tail + side,
            base + side,
            base + wing,
            tip,
            base - wing,
            base - side,
            tail - side,
        ]
        shape = [_fraction(numpy.array(outline))]
        cv2.fillPoly(canvas, shape, tint, cv2.LINE_AA, SHIFT)


def _fraction(places: numpy.ndarray) -> numpy.ndarray:
    """Pixels as OpenCV takes them: whole numbers of 2 ** -SHIFT pixels."""
    pixels: numpy.ndarray = numpy.round((places - 0.5) * 2**SHIFT).astype(numpy.int32)
    return pixels


def _canvas(picture: Tensor) -> numpy.ndarray:
    return numpy.ascontiguousarray(picture.permute(1, 2, 0).numpy()).copy()


def _picture(canvas: numpy.ndarray) -> Tensor:
    return torch.from_numpy(canvas).permute(2, 0, 1).contiguous()
