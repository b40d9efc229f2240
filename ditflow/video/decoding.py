"""Video files, by FFmpeg's libraries (PyAV): the frames that a player shows.

They are those of `ffmpeg -i FILE -map 0:v:0 -fps_mode passthrough`. A file is read twice. First its
packets, without decoding: they tell when each frame is shown, and whether the container is whole.
Then its pictures, in order, each of which must come at its time: from the start, or from a key
frame that no later frame looks behind. So no frame is taken for another one, and what cannot be
decoded is an error.
"""

# Y X pixel rows and columns, C = 3 channels RGB
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ditflow.video.selection import is_variable
from ditflow.video.source import Picture, Source, VideoError
from ditflow.video.whole import check_whole, loses_frames

MAX_PIXELS = 1 << 26  # of a frame: 8192 x 8192
STRICT = {"err_detect": "explode+crccheck+bitstream+buffer+careful"}  # a decoder conceals nothing
REPAIR = "To keep what can still be shown, run: ffmpeg -i FILE -c:v libx264 REPAIRED.mp4"


@dataclass(frozen=True)
class Packet:
    """A coded frame: when it is shown and decoded, in ticks of the stream, where the file says so.
    """

    shown: int | None
    decoded: int | None
    key: bool


@dataclass(frozen=True)
class Index:
    """What is known of the frames before they are decoded.

    Attributes:
        times: when each is shown, in seconds.
        ticks: their time stamps, in ticks of the stream; None where the file has none to rely on.
        key: time stamp of the first coded frame, where the file was cut out of another one: frames
            that are shown before it may refer to others that are gone.
        doors: frames that decoding can begin at.
    """

    times: Sequence[float] = ()
    ticks: Sequence[int | None] | None = None
    key: int | None = None
    doors: tuple[int, ...] = (0,)

    def place(self, number: int) -> str:
        if number >= len(self.times):
            return "its end"
        return f"frame {number}, {self.times[number]:.2f} s"

    def expects(self, number: int, tick: int | None) -> bool:
        """Whether a frame of this time stamp may be the one of this number."""
        if self.ticks is not None:
            return number < len(self.ticks) and self.ticks[number] == tick
        return number > 0 or self.key is None or tick is None or tick <= self.key


def file_source(path: Path) -> Source:
    """Raises VideoError for what is no video, and for a container that is damaged or was cut off.
    """
    check_whole(path)
    with _complaints() as messages, _opened(path) as (container, stream):
        packets = list(_packets(path, container, stream))
        name, base, channel = container.format.name, stream.time_base, stream.id
        rate, claimed = stream.average_rate or stream.guessed_rate, stream.frames
    if said := [words for _, who, words in messages if who == name]:
        raise _damaged(path, " ".join(said[0].split()))
    if not packets:
        raise _no_video(path, "it holds no frame")
    if name == "avi":
        index = _timeless(path, packets, base, claimed)
    else:
        index = _index(path, packets, base, rate)
    regular = not is_variable(index.times)
    if name == "mpegts" and loses_frames(path, channel, len(packets), regular=regular):
        raise _damaged(path, "frames are missing")
    pictures = partial(_pictures, path, index)
    return Source(name.split(",")[0], index.times, float(rate or 0), pictures)


def _packets(path: Path, container: Any, stream: Any) -> Iterator[Packet]:
    """Those of frames that are shown: not what an edit list cuts away, nor what only others need.
    """
    import av

    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise _damaged(path, "a frame is incomplete")
            if packet.size and not packet.is_discard and not _is_hidden(packet):
                yield Packet(packet.pts, packet.dts, packet.is_keyframe)
    except av.FFmpegError as error:
        raise _damaged(path, "it cannot be read to its end") from error


def _is_hidden(packet: Any) -> bool:
    """Whether a packet of VP8 holds a picture that is never shown (RFC 6386, 9.1)."""
    return packet.stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10


def _index(
    path: Path, packets: Sequence[Packet], base: Fraction, rate: Fraction | None
) -> Index:
    """From the time stamps of all packets, if they have them, else from decoding.

    A file that was cut out of another one may begin with frames that nobody can show. The decoder
    leaves them out, and its first frame says where the file begins.
    """
    key = packets[0].shown if packets[0].key else None
    ticks = sorted(packet.shown for packet in packets if packet.shown is not None)
    if len(ticks) < len(packets):
        return _decoded_index(path, key, base, rate)
    if key is None or key == ticks[0]:
        return Index(_seconds(ticks, base), ticks, None, _doors(packets, ticks))
    begins = next((frame.pts for _, frame in _decoded(path, Index(key=key))), ticks[0])
    ticks = [tick for tick in ticks if tick >= min(begins, key)]
    return Index(_seconds(ticks, base), ticks, key, _doors(packets, ticks))


def _decoded_index(path: Path, key: int | None, base: Fraction, rate: Fraction | None) -> Index:
    seen = [frame.pts for _, frame in _decoded(path, Index(key=key))]
    ticks = [tick for tick in seen if tick is not None]
    if len(ticks) == len(seen) and ticks == sorted(ticks):
        return Index(_seconds(ticks, base), ticks, key)
    return Index([float(number / rate) if rate else 0.0 for number in range(len(seen))], seen, key)


def _timeless(path: Path, packets: Sequence[Packet], base: Fraction, claimed: int) -> Index:
    """AVI numbers its frames as they are decoded, and does not say when they are shown.

    Both orders have the same steps of time, so the numbers serve as times. FFmpeg guesses time
    stamps, which may be wrong.
    """
    numbers = [packet.decoded or 0 for packet in packets]
    if claimed - numbers[-1] > max([1, *(b - a for a, b in pairwise(numbers))]):
        raise _damaged(path, f"it ends at {numbers[-1] + 1} of the {claimed} that it claims")
    return Index(_seconds(numbers, base))


def _seconds(ticks: Sequence[int], base: Fraction) -> list[float]:
    return [float((tick - ticks[0]) * base) for tick in ticks]


def _doors(packets: Sequence[Packet], ticks: Sequence[int]) -> tuple[int, ...]:
    """The first frame, and each key frame that parts the others.

    What is coded before it is shown before it, and what is coded behind it is shown behind it.
    """
    lost = len(packets) - len(ticks)
    latest = accumulate((packet.shown or 0 for packet in packets), max)
    return 0, *(
        number - lost
        for number, (packet, last) in enumerate(zip(packets, latest, strict=True))
        if packet.key and number > lost and last == packet.shown == ticks[number - lost]
    )


def _pictures(path: Path, index: Index, indices: Sequence[int]) -> Iterator[Picture]:
    """Raises VideoError where a frame up to the last of these is damaged, missing or out of turn.

    So it does where their size changes.
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
    raise _damaged(path, f"{index.place(wanted[0])} is missing")


def _orientation(path: Path, frame: Any) -> tuple[int, int, int, int]:
    """Where a player shows a point (x, y): at (a x + c y, b x + d y).

    Asked of one frame of a file: PyAV keeps a frame in a circle with what it says here, so that its
    memory waits for the garbage collector.
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
    """The picture as a player shows it: turned and mirrored."""
    a, b, c, d = orientation
    picture: Picture = frame.to_ndarray(format="rgb24")
    right, down = (a, d) if a else (c, b)
    straight = picture if a else picture.swapaxes(0, 1)
    return straight[:: 1 if down > 0 else -1, :: 1 if right > 0 else -1]


def _from_door(path: Path, index: Index, first: int) -> Iterator[tuple[int, Any]]:
    """Frames with their numbers, from the last door before the first one wanted.

    From the start where FFmpeg does not find that door.
    """
    frames = _decoded(path, index, index.doors[bisect_right(index.doors, first) - 1])
    try:
        return chain([next(frames)], frames)
    except (VideoError, StopIteration):
        return _decoded(path, index)


def _decoded(path: Path, index: Index, door: int = 0) -> Iterator[tuple[int, Any]]:
    """All frames from a door on, with their numbers, in display order.

    Raises VideoError, with the place, at the first that is damaged, missing or out of turn.
    """
    number = door
    for frame in _frames(path, index, door):
        if frame is None or frame.is_corrupt:
            if number == 0 and index.key is not None:
                continue  # it may be one that nobody can show: the first sound one tells
            raise _damaged(path, f"near {index.place(number)}")  # threads run a few frames ahead
        if not index.expects(number, frame.pts):
            raise _damaged(path, f"{index.place(number)} is missing or out of turn")
        yield number, frame
        number += 1


def _frames(path: Path, index: Index, door: int) -> Iterator[Any]:
    """What the decoder gives, and None where it fails."""
    import av
    from av.codec.context import Flags

    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        if index.key is None:  # else the first frame, too, speaks of what is gone
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


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A file and its first video; a picture of its cover is none."""
    import av
    from av.stream import Disposition

    name = str(path.resolve())  # absolute: "concat:a|b" is never taken for a protocol
    try:
        container = av.open(name)
    except (av.FFmpegError, ValueError, OverflowError) as error:
        raise _no_video(path) from error
    with container:
        cover = Disposition.attached_pic
        streams = [film for film in container.streams.video if not film.disposition & cover]
        if not streams:
            raise VideoError(f"{path} holds no video.")
        _check_claims(path, streams[0])
        yield container, streams[0]


def _check_claims(path: Path, stream: Any) -> None:
    """Refuse a header whose numbers are absurd, before memory is taken for them."""
    if stream.codec_context is None:
        raise _no_video(path, "its codec is unknown")
    frames, pixels = stream.frames, stream.width * stream.height
    if frames > path.stat().st_size or not 0 < pixels <= MAX_PIXELS:
        claims = f"its header claims {frames} frames of {pixels} pixels"
        raise VideoError(f"{path} is damaged: {claims}. Copy or download it again.")


def _no_video(path: Path, why: str = "") -> VideoError:
    reason = f": {why}" if why else ""
    return VideoError(f"{path} is not a video that can be decoded, or it was cut off{reason}.")


def _damaged(path: Path, what: str) -> VideoError:
    return VideoError(f"{path} is damaged or was cut off: {what}. {REPAIR}")


@contextmanager
def _complaints() -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg's libraries report as errors meanwhile, as (level, who, words).

    A demuxer leaves out what it cannot read, and says so here alone.
    """
    from av import logging

    level, skips = logging.get_level(), logging.get_skip_repeated()
    logging.set_level(logging.ERROR)
    logging.set_skip_repeated(False)
    try:
        with logging.Capture() as messages:
            logging.log(logging.ERROR, "ditflow", "begin")  # PyAV then tells what it had kept back
            messages.clear()
            yield messages
    finally:
        logging.set_skip_repeated(skips)
        logging.set_level(level)
