"""Still pictures: frames of videos in one image."""

# T pixel frames, C = 3 colours, Y X pixel rows and columns
from __future__ import annotations

import io
from collections.abc import Sequence

import numpy
import torch
from PIL import Image
from torch import Tensor


def contact_sheet(
    videos: Sequence[Tensor], *, frames: int, gap: int = 2, background: int = 255
) -> Tensor:
    """A picture uint8 (C, Y, X) with a row for each video uint8 (T, C, Y, X), in which `frames`
    frames from the first to the last stand side by side, `gap` pixels apart.

    Raises ValueError unless all frames have one size. The videos may differ in length.
    """
    sizes = {tuple(video.shape[1:]) for video in videos}
    if len(sizes) != 1:
        raise ValueError(
            f"a contact sheet needs videos with frames of one size, but these have "
            f"{sorted(sizes)}; resize them, or make a sheet for each size"
        )
    rows = [still(_evenly(video, frames), gap=gap, background=background) for video in videos]
    return _joined(rows, gap, background, dim=-2)


def still(images: Tensor | Sequence[Tensor], *, gap: int = 2, background: int = 255) -> Tensor:
    """Images uint8 (C, Y, X) of one height side by side, `gap` pixels apart: uint8 (C, Y, X)."""
    return _joined(list(images), gap, background, dim=-1)


def png(image: Tensor) -> bytes:
    """A PNG file of an image uint8 (3, Y, X), or (4, Y, X) with opacity. An image of at most 256
    colours is written with a palette, which is smaller.
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(numpy.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))
    few = picture.mode == "RGB" and picture.getcolors(256) is not None
    if few:
        picture = picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _evenly(video: Tensor, frames: int) -> Tensor:
    return video[torch.linspace(0, len(video) - 1, frames).round().long()]


def _joined(images: list[Tensor], gap: int, background: int, dim: int) -> Tensor:
    shape = list(images[0].shape)
    shape[dim] = gap
    spacer = images[0].new_full(shape, background)
    parts = [part for image in images for part in (spacer, image)][1:]
    return torch.cat(parts, dim)
