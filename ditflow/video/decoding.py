"""Decode the pictures of a video file in display order, and check that each is the one expected.

Decoding begins at the start of the file, or at a door: a key frame behind which no later frame
looks. A frame that cannot be decoded is an error, so no frame is mistaken for another one.
"""

# Y X pixel rows and columns, C = 3 channels RGB
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ditflow.video.container import damaged, opened
from ditflow.video.source import Picture, VideoError

# errors are raised instead of concealed
STRICT = {"err_detect": "explode+crccheck+bitstream+buffer+careful"}
# codecs that mark damaged pictures anyway, and in strict mode fail on odd but sound ones
LENIENT = {"h264"}


@dataclass(frozen=True)
class Index:
    """The frames of a file as known before they are decoded.

    Attributes:
        times: when each frame is shown, in seconds.
        ticks: time stamp of each frame, in ticks of the stream; None if the file has no reliable
            ones.
        cut: the file was cut out of a longer one. The decoder reports errors for the missing part,
            and leaves out frames that refer to it.
        key: time stamp of the first key frame of such a file, if known.
        doors: numbers of the frames at which decoding can begin.
    """

    times: Sequence[float] = ()
    ticks: Sequence[int | None] | None = None
    cut: bool = False
    key: int | None = None
    doors: tuple[int, ...] = (0,)

    def place(self, number: int) -> str:
        """Number and time of a frame, for an error message."""
        if number >= len(self.times):
            return "its end"
        return f"frame {number}, {self.times[number]:.2f} s"

    def expects(self, number: int, tick: int | None) -> bool:
        """Whether a frame with this time stamp can have this number."""
        if self.ticks is not None:
            return number < len(self.ticks) and self.ticks[number] == tick
        return number > 0 or self.key is None or tick is None or tick <= self.key

    def has_lost(self, frame: Any) -> bool:
        """Whether a frame before the first one belongs to the missing part of a cut file."""
        if not self.cut:
            return False
        if frame is None or frame.is_corrupt:
            return True
        first = self.ticks[0] if self.ticks else None
        return first is not None and frame.pts is not None and frame.pts < first


def pictures(path: Path, index: Index, indices: Sequence[int]) -> Iterator[Picture]:
    """Decode the frames of these rising indices.

    Raises VideoError if a frame up to the last of them is damaged, missing or out of order, or if
    the size of the frames changes.
    """
    wanted, sizes, orientation = list(indices), dict[str, None](), None
    for number, frame in _from_door(path, index, indices[0]):
        if number == wanted[0]:
            del wanted[0]
            sizes[f"{frame.width}x{frame.height}"] = None
            if len(sizes) > 1:
                raise VideoError(
                    f"{path} changes from {' to '.join(sizes)} pixels at {index.place(number)}. "
                    "Take frames before or behind it, or give all one size."
                )
            orientation = orientation or _orientation(path, frame)
            yield _upright(frame, orientation)
        if not wanted:
            return
    raise damaged(path, f"{index.place(wanted[0])} is missing")


def decoded(path: Path, index: Index, door: int = 0) -> Iterator[tuple[int, Any]]:
    """All frames from a door on, with their numbers.

    Raises VideoError, with the place, at the first frame that is damaged, missing or out of order.
    """
    number = door
    for frame in _frames(path, index, door):
        if number == 0 and index.has_lost(frame):
            continue
        if frame is None or frame.is_corrupt:
            raise damaged(path, f"near {index.place(number)}")  # threads run a few frames ahead
        if number == door > 0 and not _is_intra(frame):
            raise damaged(path, f"{index.place(number)} is no key frame, as the file says it is")
        if not index.expects(number, frame.pts):
            raise damaged(path, f"{index.place(number)} is missing, or its time stamp is wrong")
        yield number, frame
        number += 1


def _from_door(path: Path, index: Index, first: int) -> Iterator[tuple[int, Any]]:
    """Frames with their numbers, from the last door before the first wanted frame.

    They come from the start if decoding cannot begin at that door.
    """
    frames = decoded(path, index, index.doors[bisect_right(index.doors, first) - 1])
    try:
        return chain([next(frames)], frames)
    except (VideoError, StopIteration):
        return decoded(path, index)


def _is_intra(frame: Any) -> bool:
    from av.video.frame import PictureType

    return bool(frame.pict_type == PictureType.I)


def _frames(path: Path, index: Index, door: int) -> Iterator[Any]:
    """The frames that the decoder gives, and None for each packet on which it fails."""
    import av
    from av.codec.context import Flags

    with opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        if not index.cut and stream.codec_context.name not in LENIENT:
            stream.codec_context.options = STRICT
        stream.codec_context.flags |= Flags.output_corrupt  # else damaged frames are left out
        if door and index.ticks is not None:
            container.seek(index.ticks[door], stream=stream)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet is not None else []
            except av.FFmpegError:
                yield None
                continue
            if packet is None:
                return
            yield from frames


def _orientation(path: Path, frame: Any) -> tuple[int, int, int, int]:
    """The turn (a, b, c, d) of a file: a player shows the point (x, y) at (a x + c y, b x + d y).

    Only one frame of a file is asked: reading `side_data` ties a frame into a reference cycle of
    PyAV, so that its memory waits for the garbage collector. Raises VideoError unless it is a
    quarter turn.
    """
    matrices = (data for data in frame.side_data if data.type.name == "DISPLAYMATRIX")
    matrix = next((np.frombuffer(data, np.int32) for data in matrices), None)
    if matrix is None:
        return 1, 0, 0, 1
    a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
    if (a == d == 0) == (b == c == 0):
        turned = f"{path} is shown turned by an angle that is no quarter turn"
        raise VideoError(f"{turned}. Turn it first: ffmpeg -i FILE TURNED.mp4")
    return a, b, c, d


def _upright(frame: Any, orientation: tuple[int, int, int, int]) -> Picture:
    """The picture turned and mirrored as a player shows it."""
    a, b, c, d = orientation
    picture: Picture = frame.to_ndarray(format="rgb24")
    right, down = (a, d) if a else (c, b)
    straight = picture if a else picture.swapaxes(0, 1)
    return straight[:: 1 if down > 0 else -1, :: 1 if right > 0 else -1]
