"""Read a clip: chosen frames of a video file, an animation or a folder of pictures, at any size.

The frames of a clip are those that a player shows, in the same order. They are resized as in the
published preprocessing: with PIL's bicubic filter, straight to the requested size, without cropping
and without keeping the aspect ratio.
"""

# T frames, C = 3 channels RGB, Y X pixel rows and columns

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ditflow.files import expanded
from ditflow.video.packets import file_source
from ditflow.video.pictures import animation_source, folder_source, is_animation, pictures_of
from ditflow.video.selection import SelectionError, by_stride, by_time, interval, is_variable
from ditflow.video.source import Picture, Source, VideoError
from ditflow.warning import warn

# how frames are counted; a change that gives other frames of the same clip needs another name
READER = "display order"


class TooShortError(VideoError):
    """A clip has fewer frames than requested.

    Attributes:
        words: the message without the advice.
        fit: how many frames the clip gives from the same start on.
    """

    def __init__(self, sentence: str, words: str, fit: int) -> None:
        super().__init__(sentence)
        self.words, self.fit = words, fit


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of a reference clip.

    Attributes:
        frames: uint8 (T, C, Y, X), RGB.
        fps: frames per second of these frames, after the stride.
        path: the file or folder that was read.
        sha256: hash of the file's bytes; for a folder, over its pictures in order.
        container: FFmpeg's name of the file format, such as "avi", or "folder".
        reader: how the frames were counted; see `READER`.
    """

    frames: Tensor
    fps: float
    path: Path
    sha256: str
    container: str = ""
    reader: str = ""


def read_video(
    path: str | os.PathLike[str],
    *,
    frames: int | None = None,
    start: int = 0,
    stride: int = 1,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
) -> Clip:
    """Read the frames start, start + stride, ... of a clip.

    A clip is a video file, an animated gif, webp or png, or a folder of pictures in the natural
    order of their names. Frames are counted from 0 in the order in which players show them. Edit
    lists and rotation are honoured.

    Args:
        frames: number of frames; None takes all from `start` on.
        start: number of the first frame.
        stride: distance between two frames taken.
        fps: frames per second, instead of a stride: takes the frames nearest to
            times[start] + k / fps.
        size: (height, width) in pixels; None keeps the size of the clip.
    Raises:
        VideoError: the file is missing, empty, cut off, damaged or not a video.
        TooShortError: the clip has fewer frames than requested.
    Warns:
        if frames are taken by number from a clip whose frame rate varies, and if `fps` is above the
        rate of the clip, so that frames are taken twice.
    """
    path = expanded(path)
    _check_numbers(frames, start, stride, fps, size)
    sha256, source = video_sha256(path), _source(path)
    indices = _chosen(path, source, frames, start, stride, fps)
    taken = _taken(path, source, indices, size)
    rate = _rate(source, indices, stride) if fps is None else fps
    return Clip(taken, rate, path, sha256, source.container, READER)


def video_length(
    path: str | os.PathLike[str], *, start: int = 0, stride: int = 1, fps: float | None = None
) -> int:
    """Number of frames that `read_video` gives from `start` on. Raises VideoError.

    Pictures are decoded only if the time stamps of the file are unreliable.
    """
    path = expanded(path)
    _check_numbers(None, start, stride, fps, None)
    return len(_chosen(path, _source(path), None, start, stride, fps))


def video_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes; for a folder, over its pictures in order. Nothing is decoded.

    Raises VideoError if there is nothing to read.
    """
    path = expanded(path)
    with readable(path):
        return _sha256(path)


def _check_numbers(
    frames: int | None, start: int, stride: int, fps: float | None, size: tuple[int, int] | None
) -> None:
    given = (
        ("frames", 1 if frames is None else frames, 1),
        ("start", start, 0),
        ("stride", stride, 1),
        ("size", min(size or (1,)), 1),
    )
    for name, value, least in given:
        if value < least:
            raise VideoError(f"{name} must be at least {least}, not {value}.")
    if fps is not None and not 0 < fps < float("inf"):
        raise VideoError(f"fps must be a finite number above 0, not {fps:g}.")
    if fps is not None and stride != 1:
        both = f"stride={stride} and fps={fps:g}"
        raise VideoError(f"{both} both say which frames to take: give one of them.")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """A context that raises VideoError if the path is missing or may not be read."""
    if not (path.is_file() or path.is_dir()):
        raise VideoError(f"There is no file or folder {path}. Check the path.")
    try:
        yield
    except PermissionError as error:
        denied = "permission is denied. Make it readable for you"
        raise VideoError(f"{path} may not be read: {denied}.") from error


def _source(path: Path) -> Source:
    with readable(path):
        if path.is_dir():
            return folder_source(path)
        return animation_source(path) if is_animation(path) else file_source(path)


def _chosen(
    path: Path, source: Source, frames: int | None, start: int, stride: int, fps: float | None
) -> list[int]:
    """Indices of the requested frames, rising. By time, one may come more than once."""
    try:
        if fps is not None:
            indices = by_time(source.times, frames, start, fps)
        else:
            indices = by_stride(len(source.times), frames, start, stride)
    except SelectionError as error:
        sentence, words = f"{path} {error}", f"{path} {error.words}"
        if error.fit:
            raise TooShortError(sentence, words, error.fit) from None
        raise VideoError(sentence) from None
    if advice := _advice(source.times[start : indices[-1] + 1], stride, fps):
        warn(f"{path} {advice}")
    return indices


def _advice(times: Sequence[float], stride: int, fps: float | None) -> str:
    """A warning about the frame rate, or "". `times` are those from the first frame to the last."""
    rate = 1 / interval(times) if interval(times) else 0.0
    if fps is not None and 0 < 1.01 * rate < fps:
        return f"has about {rate:.3g} frames a second, so fps={fps:g} takes some of them twice."
    if fps is not None or not is_variable(times):
        return ""
    taken = "frame" if stride == 1 else f"{stride} frames"
    varies = f"has a variable frame rate, so every {taken} is not an equal step of time"
    return f"{varies}. Take frames by time with fps, such as fps={rate / stride:.3g}."


def _taken(
    path: Path, source: Source, indices: Sequence[int], size: tuple[int, int] | None
) -> Tensor:
    """The frames, uint8 (T, C, Y, X). Memory holds them once, and one more picture."""
    times, pixels, shape = Counter(indices), bytearray(), None
    for picture, count in zip(source.decode(list(times)), times.values(), strict=True):
        frame = np.ascontiguousarray(_resized(picture, size).transpose(2, 0, 1))
        if shape not in (None, frame.shape):
            fix = "make all of one size, or ask for one with size=(height, width)"
            raise VideoError(f"{path} has frames of different sizes: {fix}.")
        shape = frame.shape
        for _ in range(count):
            pixels += frame.data
    assert shape is not None, "at least one frame is asked for"
    return torch.frombuffer(pixels, dtype=torch.uint8).view(-1, *shape)


def _resized(picture: Picture, size: tuple[int, int] | None) -> Picture:
    if size is None:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))


def _rate(source: Source, indices: Sequence[int], stride: int) -> float:
    """Frames per second of every `stride`-th frame.

    It is the rate that the file states, or the measured one where the two differ. A whole clip
    whose rate varies keeps the stated rate, which is the mean.
    """
    first, last = source.times[indices[0]], source.times[indices[-1]]
    measured = (len(indices) - 1) / (last - first) if last > first else 0.0
    stated = source.rate / stride
    varies = len(indices) == len(source.times) and is_variable(source.times)
    agrees = not measured or varies or abs(stated / measured - 1) < 0.01
    return stated if stated and agrees else measured


def _sha256(path: Path) -> str:
    if path.is_dir():
        return hashlib.sha256("".join(map(_sha256, pictures_of(path))).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
