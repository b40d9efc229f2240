"""Read animations (gif, webp, png) and folders of pictures, with PIL."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from ditflow.video.source import Picture, Source, VideoError

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
ANIMATIONS = {".gif", ".webp", ".png", ".apng"}
FOLDER_FPS = 8.0  # pictures have no rate, so that of CogVideoX is taken
BLINK, SHOWN = 10, 100  # milliseconds; a frame of at most 10 is shown for 100, as in browsers
BROKEN = (  # PIL's errors for a bad file
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError),
    *(struct.error, Image.DecompressionBombError),
)


def is_animation(path: Path) -> bool:
    return path.suffix.lower() in ANIMATIONS


def animation_source(path: Path) -> Source:
    """The frames of an animation. Raises VideoError if it cannot be decoded or is one picture."""
    container, durations = _durations(path)
    if len(durations) == 1 and path.suffix.lower() in PICTURES:
        fix = "Put the pictures of a clip into a folder, and name the folder"
        raise VideoError(f"{path} is one picture, not a video. {fix}.")
    times = [0.0, *accumulate(durations[:-1])]
    return Source(container, times, len(durations) / sum(durations), partial(_animated, path))


def folder_source(path: Path) -> Source:
    """The pictures of a folder as a clip. Raises VideoError if it holds none."""
    files = pictures_of(path)
    if not files:
        kinds = " ".join(sorted(PICTURES))
        raise VideoError(f"The folder {path} holds no pictures ({kinds}). Put some there.")
    times = [index / FOLDER_FPS for index in range(len(files))]
    return Source("folder", times, FOLDER_FPS, partial(_still, files))


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder, without hidden files, in natural order: frame2 before frame10."""
    visible = (file for file in folder.iterdir() if not file.name.startswith("."))
    return sorted((file for file in visible if file.suffix.lower() in PICTURES), key=_natural)


def still(file: Path, *, upright: bool = False, mode: str = "RGB") -> Picture:
    """A picture of a file in a mode of PIL; `upright` turns it as its camera was held. Raises
    VideoError.
    """
    try:
        with Image.open(file) as image:
            picture = (ImageOps.exif_transpose(image) if upright else image).convert(mode)
    except BROKEN as error:
        what = f"{file} is not a picture that can be decoded, or it was cut off"
        raise VideoError(f"{what}. Replace or remove it.") from error
    if image.mode.startswith(("I", "F")):
        raise VideoError(f"{file} has more than 8 bits a channel: convert it to 8 bits.")
    return np.asarray(picture)


def _natural(file: Path) -> tuple[list[tuple[str, int]], str]:
    parts = re.findall(r"(\D*)(\d*)", file.name)
    return [(word, int(number or 0)) for word, number in parts], file.name


def _durations(path: Path) -> tuple[str, list[float]]:
    """Name of the format, and seconds that each frame is shown. Raises VideoError if damaged."""
    with _opened(path) as image:
        stated = [frame.info.get("duration", 0) for frame in _frames(path, image)]
        container = str(image.format).lower()
    return container, [(said if said > BLINK else SHOWN) / 1000 for said in stated]


def _animated(path: Path, indices: Sequence[int]) -> Iterator[Picture]:
    wanted = set(indices)
    with _opened(path) as image:
        for index, frame in enumerate(_frames(path, image)):
            if index in wanted:
                yield np.asarray(frame.convert("RGB"))


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except BROKEN as error:
        what = f"{path} is not an animation that can be decoded, or it was cut off"
        raise VideoError(f"{what}. Copy or download it again.") from error


def _frames(path: Path, image: Image.Image) -> Iterator[Image.Image]:
    try:
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            frame.load()
            if number or not getattr(image, "default_image", False):  # hidden in animated PNGs
                yield frame
    except BROKEN as error:
        what = f"{path} is damaged or was cut off: not all of its frames can be decoded"
        raise VideoError(f"{what}. Copy or download it again.") from error


def _still(files: Sequence[Path], indices: Sequence[int]) -> Iterator[Picture]:
    for index in indices:
        yield still(files[index])
