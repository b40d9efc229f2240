"""Write frames as mp4 files."""

# T frames, C = 3 channels RGB, Y X pixel rows and columns

from __future__ import annotations

import io
import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ditflow.files import atomic_file
from ditflow.video.source import VideoError


class Account(Protocol):
    """What says how a video was made, such as a `VideoProvenance`."""

    def to_json(self) -> str:
        """One JSON object."""


def write_video(
    path: str | os.PathLike[str], frames: Tensor, fps: float, *, made: Account | None = None
) -> None:
    """Write frames, uint8 (T, C, Y, X) RGB, as an H.264 mp4 that any player shows.

    The file says how it was `made` in its comment, where that is given. Equal arguments give equal
    bytes. If writing fails, an older file of that name stays as it was.

    Raises:
        VideoError: the frames cannot be encoded, or the name does not end in .mp4.
        StorageError: the disk refuses.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise VideoError(f"{path} must end in .mp4.")
    try:
        content = encode_video(frames, fps, comment="" if made is None else made.to_json())
    except VideoError as error:
        raise VideoError(f"{path}: {error}") from error
    with atomic_file(path) as file:
        file.write(content)


# x264's lookahead with AVX-512 makes other bytes of the same frames from one call to the next
OPTIONS = {"x264-params": "cpu-independent=1"}


def encode_video(frames: Tensor, fps: float, *, crf: int = 17, comment: str = "") -> bytes:
    """The bytes of an H.264 mp4 of frames, uint8 (T, C, Y, X) RGB. Raises VideoError.

    `crf` is the rate factor of H.264: raising it by 6 halves the size, about. `comment` is text
    that the container keeps beside the frames.
    """
    import av

    kind, shape = frames.dtype, tuple(frames.shape)
    if kind != torch.uint8 or len(shape) != 4 or shape[1] != 3 or not frames.numel():
        wanted = "uint8 of shape (frames, 3, rows, columns)"
        raise VideoError(f"frames must be {wanted}, not {kind} of shape {shape}.")
    if shape[2] % 2 or shape[3] % 2:
        wanted = "height and width must be multiples of 2"
        raise VideoError(f"frames of {shape[2]}x{shape[3]} pixels cannot be encoded: {wanted}.")
    if not (math.isfinite(fps) and fps > 0):
        raise VideoError(f"fps must be a positive number, not {fps}.")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        container.metadata.update({"comment": comment} if comment else {})
        rate = Fraction(fps).limit_denominator(10_000)
        stream = container.add_stream("libx264", rate=rate, options=OPTIONS | {"crf": str(crf)})
        stream.pix_fmt, stream.height, stream.width = "yuv420p", shape[2], shape[3]
        stream.codec_context.thread_count = 1  # the bytes then do not depend on the machine
        for frame in frames.permute(0, 2, 3, 1).cpu().contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()
