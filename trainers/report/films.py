"""The film of a motion: moments from the first frame to the last, in one small picture."""

# T moments, Y X pixel rows and columns
from __future__ import annotations

import hashlib
import io

import numpy
import torch
from PIL import Image
from torch import Tensor

from ditflow import __version__
from ditflow.fields.field import MotionField
from ditflow.visual import flow_colours, still
from ditflow.visual.carried import carried
from ditflow.visual.fields import enlarged, movement, reach_of

MOMENTS, LONGER, LEAST = 12, 112, 8  # in a film; pixels of a tile's longer side and of its shorter
QUALITY = 72


def film_name(content: str) -> str:
    """The file name of an entry's film, by the hash of the entry: another drawing has another."""
    drawn = f"{__version__} {MOMENTS} {LONGER} {QUALITY} {content}"
    return f"{hashlib.sha256(drawn.encode()).hexdigest()[:32]}.webp"


def film_of(field: MotionField) -> bytes:
    """A WebP file: MOMENTS tiles side by side, a texture that the motion carries along, and below
    how far each place has moved, as colours.
    """
    moments = numpy.linspace(0, field.frames - 1, MOMENTS).tolist()
    shape = tile_shape(field.aspect)
    cells = min(field.cells[0], shape[0]), min(field.cells[1], shape[1])
    moved = enlarged(movement(field.resampled(moments, cells, field.frames)), shape)
    colours = flow_colours(moved, reach_of(field))
    rows = (still(pictures, gap=0) for pictures in (carried(field, moments, shape), colours))
    return _webp(torch.cat(list(rows), dim=1))


def tile_shape(aspect: float) -> tuple[int, int]:
    """Height and width of a tile, both even."""
    sides = (LONGER / aspect, LONGER) if aspect >= 1 else (LONGER, LONGER * aspect)
    height, width = (max(LEAST, 2 * round(side / 2)) for side in sides)
    return height, width


def _webp(picture: Tensor) -> bytes:
    buffer = io.BytesIO()
    pixels = numpy.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    Image.fromarray(pixels).save(buffer, "webp", quality=QUALITY, method=4)
    return buffer.getvalue()
