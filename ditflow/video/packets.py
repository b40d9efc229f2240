"""Find when each frame of a video file is shown, with FFmpeg's libraries (PyAV).

The frames are those of `ffmpeg -i FILE -map 0:v:0 -fps_mode passthrough`. A file is read twice.
This module reads its packets without decoding them: they tell when each frame is shown, and whether
the container is whole. Then `decoding.py` decodes the pictures and checks their times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from ditflow.video.container import damaged, no_video, opened
from ditflow.video.decoding import Index, decoded, pictures
from ditflow.video.matroska import misfit
from ditflow.video.selection import is_variable
from ditflow.video.source import Source
from ditflow.video.whole import check_whole, loses_frames

STREAMS = ("mpegts", "mpeg")  # formats of recordings, which may begin inside a group of pictures


@dataclass(frozen=True)
class Packet:
    """A coded frame.

    Attributes:
        shown: when it is shown, in ticks of the stream; None if the file does not say.
        decoded: when it is decoded, likewise.
        key: whether it is a key frame.
        kept: False if an edit list leaves it out.
        place: its first byte in the file, if known.
    """

    shown: int | None
    decoded: int | None
    key: bool
    kept: bool
    place: int | None


@dataclass(frozen=True)
class Stream:
    """What a container says of its first video stream.

    Attributes:
        container: FFmpeg's name of the format.
        base: seconds per tick.
        rate: frames per second, if stated.
        claimed: number of frames that the header claims; 0 if it claims none.
        channel: id of the stream in the container.
        reorders: frames are shown in another order than they are coded.
        packets: those of the frames that are shown, in coding order.
    """

    container: str
    base: Fraction
    rate: Fraction | None
    claimed: int
    channel: int
    reorders: bool
    packets: Sequence[Packet]


def file_source(path: Path) -> Source:
    """The frames of a video file. Raises VideoError if it is no video, damaged or cut off."""
    check_whole(path)
    stream = _stream(path)
    if stream.container.startswith("matroska") and (place := misfit(path)) is not None:
        raise damaged(path, f"what stands at byte {place} does not fit into the container")
    index = _timeless(path, stream) if stream.container == "avi" else _index(path, stream)
    if stream.container == "mpegts":
        even = not is_variable(index.times) and stream.packets[0].key
        stamped = index.ticks is not None and len(set(index.ticks)) == len(index.ticks)
        if loses_frames(path, stream.channel, len(stream.packets), even=even, stamped=stamped):
            raise damaged(path, "frames are missing")
    name, rate = stream.container.split(",")[0], float(stream.rate or 0)
    return Source(name, index.times, rate, partial(pictures, path, index))


def _stream(path: Path) -> Stream:
    with opened(path) as (container, film):
        name, rate = container.format.name, film.average_rate or film.guessed_rate
        reorders = bool(film.codec_context.has_b_frames)
        packets = _packets(path, container, film)
        if not any(packet.kept for packet in packets):
            raise no_video(path, "it holds no frame")
        return Stream(name, film.time_base, rate, film.frames, film.id, reorders, packets)


def _packets(path: Path, container: Any, film: Any) -> list[Packet]:
    """The packets of all frames, without pictures of VP8 that are never shown."""
    import av

    packets: list[Packet] = []
    joins = container.format.name in STREAMS
    try:
        for packet in container.demux(film):
            if packet.is_corrupt and not joins:  # the last packet before a join of streams is
                raise damaged(path, f"frame {len(packets)} is incomplete")
            if packet.size and not _is_hidden(packet):
                kept = not packet.is_discard
                times = packet.pts, packet.dts
                packets.append(Packet(*times, packet.is_keyframe, kept, packet.pos))
    except av.FFmpegError as error:
        raise damaged(path, f"it cannot be read behind frame {len(packets)}") from error
    return packets


def _is_hidden(packet: Any) -> bool:
    """Whether a packet of VP8 holds a picture that is never shown (RFC 6386, 9.1)."""
    return packet.stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10


def _index(path: Path, stream: Stream) -> Index:
    """The index from the time stamps of all packets, or from decoding if these are unreliable."""
    packets = [packet for packet in stream.packets if packet.kept]
    cut = not stream.packets[0].kept
    if stream.container in STREAMS and not packets[0].key:
        cut = True  # a player cannot show what comes before the first key frame
        packets = packets[next((n for n, packet in enumerate(packets) if packet.key), 0) :]
    ticks = sorted(packet.shown for packet in packets if packet.shown is not None)
    key = packets[0].shown if packets[0].key else None
    leads = key is not None and (len(ticks) < len(packets) or key > ticks[0])
    if len(ticks) < len(packets) or _is_unordered(stream, packets):
        return _counted(path, stream, Index(cut=cut or leads, key=key))
    if key is not None and leads:
        cut = True  # an open group comes first: the decoder tells which frames are left out
        begins = next((frame.pts for _, frame in decoded(path, Index(cut=True, key=key))), key)
        ticks = [tick for tick in ticks if tick >= min(begins, key)]
    times = _seconds(ticks, stream.base)
    return Index(times, ticks, cut, key, _doors(packets, ticks) if not cut else (0,))


def _is_unordered(stream: Stream, packets: Sequence[Packet]) -> bool:
    """Whether the time stamps cannot be right, as after files were joined or remuxed.

    In a sound file a frame is decoded before it is shown. What is coded before a key frame is also
    shown before it. Where frames are reordered, their time stamps are not in coding order.
    """
    shown = [packet.shown or 0 for packet in packets]
    order = [packet.decoded for packet in packets if packet.decoded is not None]
    latest = list(accumulate(shown, max))
    return (
        any(b <= a for a, b in pairwise(order))
        or len(set(shown)) < len(shown)
        or (stream.reorders and len(shown) > 1 and shown == latest)
        or any(
            (packet.decoded is not None and at < packet.decoded) or (packet.key and before >= at)
            for packet, at, before in zip(packets[1:], shown[1:], latest, strict=False)
        )
    )


def _counted(path: Path, stream: Stream, index: Index) -> Index:
    """The index from decoding all frames once.

    If their time stamps do not rise, each frame is taken to last 1 / rate seconds.
    """
    seen = [frame.pts for _, frame in decoded(path, index)]
    ticks = [tick for tick in seen if tick is not None]
    if len(ticks) == len(seen) and all(a < b for a, b in pairwise(ticks)):
        return Index(_seconds(ticks, stream.base), ticks, index.cut, index.key)
    step = float(1 / stream.rate) if stream.rate else 0.0
    return Index([number * step for number in range(len(seen))], seen, index.cut, index.key)


def _timeless(path: Path, stream: Stream) -> Index:
    """The index of an AVI, which numbers frames in decoding order and has no time stamps.

    Both orders have the same steps of time, so the numbers serve as times. The time stamps that
    FFmpeg guesses may be wrong.
    """
    numbers = [packet.decoded or 0 for packet in stream.packets]
    step, claimed = max([1, *(b - a for a, b in pairwise(numbers))]), stream.claimed
    if numbers[-1] + step < claimed <= path.stat().st_size:
        raise damaged(path, f"it ends at {numbers[-1] + 1} of the {claimed} frames that it claims")
    places = [packet.place for packet in stream.packets if packet.place is not None]
    if any(b <= a for a, b in pairwise(places)):
        raise damaged(path, "its index leads to a frame that is not the next one")
    frames = len(numbers)
    if stream.reorders:  # a decoder leaves out the first frames of a file that was cut
        frames = sum(1 for _ in decoded(path, Index()))
    return Index(_seconds(numbers, stream.base)[:frames])


def _seconds(ticks: Sequence[int], base: Fraction) -> list[float]:
    """Time stamps in seconds, from the first one on."""
    return [float((tick - ticks[0]) * base) for tick in ticks]


def _doors(packets: Sequence[Packet], ticks: Sequence[int]) -> tuple[int, ...]:
    """Frames at which decoding can begin: the first, and each key frame that parts the others.

    What is coded before a key frame is shown before it, or else the file `_is_unordered`. If the
    `number`-th packet is also shown as the `number`-th frame, then what is coded after it is shown
    after it, too.
    """
    return 0, *(
        number
        for number, packet in enumerate(packets)
        if packet.key and number and packet.shown == ticks[number]
    )
