"""Read a picture: one that a video is to begin with, brought to its size, or a mask."""

# C = 3 channels RGB, Y X pixel rows and columns

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as pil
from PIL import ImageOps
from torch import Tensor

from ditflow.files import expanded
from ditflow.video.clip import video_sha256
from ditflow.video.pictures import still
from ditflow.video.source import VideoError
from ditflow.warning import warn

KEPT = 2 / 3  # of a picture's area; a size that cuts away more is warned of


@dataclass(frozen=True, eq=False)
class Image:
    """A picture: its pixels, uint8 (C, Y, X), RGB, its file, and the hash of that."""

    pixels: Tensor
    path: Path
    sha256: str

    def fitted(self, height: int, width: int) -> Tensor:
        """The pixels (C, Y, X) at a video's size: resized by PIL's bicubic filter, with the aspect
        ratio kept, and cut off evenly at the two sides that are too long.

        Warns where the aspect ratios differ so much that a third of the picture is lost.
        """
        rows, columns = self.pixels.shape[1:]
        ratio = (columns / rows) / (width / height)
        if (kept := min(ratio, 1 / ratio)) < KEPT:
            warn(
                f"{self.path} has {rows} x {columns} pixels and the video {height} x {width}, so "
                f"only the middle {kept:.0%} of the picture is used: crop it as you want it."
            )
        picture = pil.fromarray(self.pixels.permute(1, 2, 0).numpy())
        return _tensor(ImageOps.fit(picture, (width, height), pil.Resampling.BICUBIC))


@dataclass(frozen=True, eq=False)
class Mask:
    """A region that a picture shows: float32 (Y, X) from 0, outside, to 1, inside; its file, and
    the hash of that.
    """

    region: Tensor
    path: Path
    sha256: str


def read_image(path: str | os.PathLike[str]) -> Image:
    """A picture of a file, upright as its camera was held. Raises VideoError for a file that is
    missing or is no picture.
    """
    path = expanded(path)
    sha256 = video_sha256(path)
    return Image(_tensor(pil.fromarray(still(path, upright=True))), path, sha256)


def read_mask(path: str | os.PathLike[str]) -> Mask:
    """A region of a file, white inside and black outside; what is transparent is outside. Raises
    VideoError as `read_image` does, and for a picture that is black or transparent all over.
    """
    path = expanded(path)
    sha256 = video_sha256(path)
    picture = pil.fromarray(still(path, upright=True, mode="RGBA"))
    grey, opaque = (
        np.asarray(band) / np.float32(255)
        for band in (picture.convert("RGB").convert("L"), picture.getchannel("A"))
    )
    region = grey * opaque
    if not region.any():
        raise VideoError(
            f"{path} is black or transparent all over, so it shows no region: paint the region "
            "white."
        )
    return Mask(torch.from_numpy(region), path, sha256)


def _tensor(picture: pil.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
