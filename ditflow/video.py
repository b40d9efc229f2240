"""Clips from files and folders, and mp4 files from frames. The one place where video is decoded and encoded.

Legend: T frames, C = 3 channels RGB, Y rows, X columns. Files are decoded by decord; gif and webp, and folders of pictures, by PIL. Frames are
resized as the published preprocessing does: PIL's bicubic filter, straight to the size asked for, without crop or regard to the aspect ratio.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from ditflow.files import atomic_file, expanded

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
ANIMATIONS = {".gif", ".webp"}
MAX_PIXELS = 1 << 26  # of a frame: 8192 x 8192
FOLDER_FPS = 8.0  # pictures carry no rate: CogVideoX's is taken
BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, Image.DecompressionBombError)  # PIL on a bad file


class VideoError(ValueError):
    """A clip that cannot be read as asked, or frames that cannot be written: one sentence with the fix."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of a reference clip.

    Attributes:
        frames: uint8 (T, C, Y, X), RGB. fps: rate of these frames, the stride taken into account.
        path: where they come from. sha256: of the file's bytes; of a folder, over its pictures in order.
    """

    frames: Tensor
    fps: float
    path: Path
    sha256: str


@dataclass(frozen=True)
class Source:
    """A clip before it is decoded: how many frames it has, and a function that decodes those of given indices, one after the other."""

    count: int
    fps: float
    decode: Callable[[Sequence[int]], Iterable[Image.Image]]


def read_video(path: str | os.PathLike[str], *, frames: int | None = None, start: int = 0, stride: int = 1, size: tuple[int, int] | None = None) -> Clip:
    """Read the frames start, start + stride, ... of a video file, a gif, or a folder of pictures in the natural order of their names.

    Args:
        frames: how many; None takes all from `start` on.
        size: (height, width) in pixels; None keeps the clip's own.
    Raises: VideoError when the file is missing, empty, cut off, damaged or no video, or holds fewer frames than asked for.
    """
    path = expanded(path)
    for name, value, least in (("frames", 1 if frames is None else frames, 1), ("start", start, 0), ("stride", stride, 1), ("size", min(size or (1,)), 1)):
        if value < least:
            raise VideoError(f"{name} must be at least {least}, not {value}.")
    sha256 = video_sha256(path)
    try:
        source = _folder(path) if path.is_dir() else _animation(path) if path.suffix.lower() in ANIMATIONS else _file(path)
    except PermissionError as error:
        raise VideoError(f"{path} may not be read: permission is denied.") from error
    indices = _indices(path, source.count, frames, start, stride)
    arrays = [np.asarray(picture if size is None else picture.resize(size[::-1], Image.Resampling.BICUBIC)) for picture in source.decode(indices)]
    if len({array.shape for array in arrays}) > 1:
        raise VideoError(f"{path} has frames of different sizes: make all of one size, or ask for one with size=(height, width).")
    return Clip(torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous(), source.fps / stride, path, sha256)


def video_sha256(path: str | os.PathLike[str]) -> str:
    """Of a file's bytes; of a folder, over its pictures in order. Nothing is decoded. Raises VideoError where there is nothing to read."""
    path = expanded(path)
    if not (path.is_file() or path.is_dir()):
        raise VideoError(f"There is no file or folder {path}.")
    try:
        return _sha256(path)
    except PermissionError as error:
        raise VideoError(f"{path} may not be read: permission is denied.") from error


def write_video(path: str | os.PathLike[str], frames: Tensor, fps: float) -> None:
    """Write frames, uint8 (T, C, Y, X) RGB, as an H.264 mp4 that any player shows. The file is whole or absent; equal frames give equal bytes.

    Raises: VideoError for frames that cannot be encoded, StorageError when the disk refuses.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise VideoError(f"{path} must end in .mp4.")
    try:
        content = encode_video(frames, fps)
    except VideoError as error:
        raise VideoError(f"{path}: {error}") from error
    with atomic_file(path) as file:
        file.write(content)


def encode_video(frames: Tensor, fps: float, *, crf: int = 17) -> bytes:
    """The bytes of an H.264 mp4 of frames, uint8 (T, C, Y, X) RGB. `crf` is its rate factor: about 6 more halve the bytes. Raises VideoError."""
    import av

    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3 or not frames.numel():
        raise VideoError(f"frames must be uint8 of shape (frames, 3, rows, columns), not {frames.dtype} of shape {tuple(frames.shape)}.")
    if frames.shape[2] % 2 or frames.shape[3] % 2:
        raise VideoError(f"frames of {frames.shape[2]}x{frames.shape[3]} pixels cannot be encoded: height and width must be multiples of 2.")
    if not (math.isfinite(fps) and fps > 0):
        raise VideoError(f"fps must be a positive number, not {fps}.")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_000), options={"crf": str(crf)})
        stream.pix_fmt, stream.height, stream.width = "yuv420p", frames.shape[2], frames.shape[3]
        stream.codec_context.thread_count = 1  # the bytes then do not depend on the machine
        for frame in frames.permute(0, 2, 3, 1).cpu().contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _indices(path: Path, count: int, frames: int | None, start: int, stride: int) -> range:
    if start >= count:
        raise VideoError(f"{path} has {count} frames, so none starts at start={start}: the last is {count - 1}.")
    fit = (count - start - 1) // stride + 1
    wanted = fit if frames is None else frames
    if wanted > fit:
        need = start + (wanted - 1) * stride + 1
        smaller = (count - start - 1) // (wanted - 1)
        other = f", or stride={smaller}" if smaller else ""
        raise VideoError(f"{path} has {count} frames, but frames={wanted} from start={start} with stride={stride} need {need}. frames={fit} would fit{other}.")
    return range(start, start + wanted * stride, stride)


def _file(path: Path) -> Source:
    import decord

    _check_whole(path)
    _check_claims(path)
    decord.logging.set_level(decord.logging.QUIET)  # it would print what our errors say
    try:
        reader = decord.VideoReader(str(path.resolve()))  # absolute: a name such as "concat:a|b" is never taken for a protocol
    except (RuntimeError, AssertionError, decord.DECORDError) as error:
        raise VideoError(f"{path} is not a video that can be decoded, or it was cut off.") from error

    def decode(indices: Sequence[int]) -> Iterator[Image.Image]:
        for index in indices:
            try:
                rows = reader[index].asnumpy()
            except (RuntimeError, StopIteration, decord.DECORDError) as error:
                raise VideoError(f"{path} is damaged or was cut off: not all of its frames {indices[0]} to {indices[-1]} can be decoded.") from error
            height, width, _ = rows.shape  # decord takes what pads a row for more channels when its length is a multiple of the width, and get_batch fails then
            yield Image.fromarray(rows.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3))

    return Source(len(reader), float(reader.get_avg_fps()), decode)


def _check_whole(path: Path) -> None:
    """Refuse an mp4 or mov that was cut off: one of its boxes claims more bytes than there are. A decoder, reading ahead, may or may not notice."""
    end, place = path.stat().st_size, 0
    if not end:
        raise VideoError(f"{path} is empty.")
    with open(path, "rb") as file:
        while place < end:
            file.seek(place)
            head = file.read(16)
            length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
            if head[4:8] in (b"moov", b"mdat", b"moof") and place + length > end:
                raise VideoError(f"{path} was cut off: it has {end} bytes, and its {head[4:8].decode()} box reaches to byte {place + length}.")
            if length < 8:
                return
            place += length


def _check_claims(path: Path) -> None:
    """Refuse what is no video, and a header whose numbers are absurd: decord would take memory for them and abort the whole process."""
    import av

    try:
        with av.open(str(path.resolve())) as container:
            streams = [(stream.frames, stream.width * stream.height) for stream in container.streams.video]
    except (av.FFmpegError, ValueError, OverflowError, AttributeError) as error:  # AttributeError: a codec that nobody knows
        raise VideoError(f"{path} is not a video that can be decoded, or it was cut off.") from error
    if not streams:
        raise VideoError(f"{path} holds no video.")
    for frames, pixels in streams:
        if frames > path.stat().st_size or not 0 < pixels <= MAX_PIXELS:
            raise VideoError(f"{path} is damaged: its header claims {frames} frames of {pixels} pixels.")


def _animation(path: Path) -> Source:
    def pictures() -> Iterator[tuple[Image.Image, float]]:
        try:
            with Image.open(path) as image:
                for frame in ImageSequence.Iterator(image):
                    yield frame.convert("RGB"), frame.info.get("duration", 0) or 100  # milliseconds; 0 means 100, as browsers have it
        except BROKEN as error:
            raise VideoError(f"{path} is not an animation that can be decoded, or it was cut off.") from error

    def decode(indices: Sequence[int]) -> Iterator[Image.Image]:
        return (picture for index, (picture, _) in enumerate(pictures()) if index in indices)

    durations = [duration for _, duration in pictures()]
    return Source(len(durations), 1000 * len(durations) / sum(durations), decode)


def _folder(path: Path) -> Source:
    files = _pictures(path)
    if not files:
        raise VideoError(f"The folder {path} holds no pictures ({' '.join(sorted(PICTURES))}).")

    def decode(indices: Sequence[int]) -> Iterator[Image.Image]:
        for file in (files[index] for index in indices):
            try:
                with Image.open(file) as image:
                    picture = image.convert("RGB")
            except BROKEN as error:
                raise VideoError(f"{file} is not a picture that can be decoded, or it was cut off.") from error
            if image.mode.startswith(("I", "F")):
                raise VideoError(f"{file} has more than 8 bits a channel: convert the pictures to 8 bits.")
            yield picture

    return Source(len(files), FOLDER_FPS, decode)


def _pictures(folder: Path) -> list[Path]:
    """Visible pictures in natural order: frame2 before frame10."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith(".")]
    return sorted(files, key=lambda file: ([(word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d*)", file.name)], file.name))


def _sha256(path: Path) -> str:
    if path.is_dir():
        return hashlib.sha256("".join(map(_sha256, _pictures(path))).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
