"""Videos whose frames carry their number as pixels, so that the right answer needs no decoder.

A frame is 4 columns x 3 rows of squares, black or white: six bits of its number, then the same bits
inverted. A frame that is grey, torn or made of two others has no number.
"""

# T frames, C = 3 colours, Y X pixel rows and columns
from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from torch import Tensor

BITS, ROWS, COLUMNS = 6, 3, 4
DARK, BRIGHT = 32, 224  # far enough apart for a poor encoder, and off the ends of the range


def numbered(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame of a number from 0 to 63: uint8 (Y, X, C)."""
    bits = [number >> bit & 1 for bit in range(BITS)]
    squares = np.array(bits + [1 - bit for bit in bits], np.uint8).reshape(ROWS, COLUMNS)
    rows, columns = np.arange(height) * ROWS // height, np.arange(width) * COLUMNS // width
    grey = np.where(squares[rows][:, columns] == 1, BRIGHT, DARK).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def numbers(frames: Tensor) -> list[int | None]:
    """The numbers of frames uint8 (T, C, Y, X); None for what shows none."""
    return [_number(frame) for frame in frames.permute(0, 2, 3, 1).numpy()]


def _number(frame: np.ndarray) -> int | None:
    height, width, _ = frame.shape
    levels = [
        np.median(
            frame[
                height * row // ROWS : height * (row + 1) // ROWS,
                width * column // COLUMNS : width * (column + 1) // COLUMNS,
            ]
        )
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]
    if any(68 < level < 188 for level in levels):
        return None
    bits = [level >= 188 for level in levels]
    if any(bit == inverse for bit, inverse in zip(bits[:BITS], bits[BITS:], strict=True)):
        return None
    return sum(int(bit) << place for place, bit in enumerate(bits[:BITS]))


def write_numbered(
    path: Path,
    codec: str,
    count: int = 40,
    *,
    rate: Fraction | int = 25,
    size: tuple[int, int] = (48, 64),
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    form: str | None = None,
    edit: Callable[[Any, Any], object] = lambda output, stream: None,
    full: bool = False,
) -> Path:
    """Write `count` numbered frames with PyAV.

    `times` are those of the frames, in milliseconds, where the rate varies. `edit` changes the
    stream before it is opened. `full` says that pixels use the full range.
    """
    with av.open(str(path), "w", format=form) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.codec_context.thread_count = 1
        stream.options = options or {}
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        edit(output, stream)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(index, *size), format="rgb24")
            if full:
                frame = frame.reformat(format=pixels, dst_color_range="JPEG")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
