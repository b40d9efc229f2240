"""Whether a container is whole, by its own claims. A decoder may or may not notice that."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ditflow.video.source import VideoError

BOXES = (b"moov", b"mdat", b"moof")  # of mp4 and mov
PIPED = 0xFFFFFFFF  # the size of an AVI that was written to a pipe
PACKET, SYNC = 188, 0x47  # of a transport stream: its bytes, the first of them
STUFFING = 0x1FFF  # the channel that only fills


def check_whole(path: Path) -> None:
    """Raises VideoError for an empty file, and for a container that claims more than there is."""
    end = path.stat().st_size
    if not end:
        raise VideoError(f"{path} is empty.")
    with open(path, "rb") as file:
        name, claimed = _claim(file, end)
    if claimed > end:
        reaches = f"it has {end} bytes, and its {name} reaches to byte {claimed}"
        raise VideoError(f"{path} was cut off: {reaches}. Copy or download it again.")


def loses_frames(path: Path, video: int, frames: int, *, even: bool, stamped: bool) -> bool:
    """Whether frames of an MPEG transport stream (ISO/IEC 13818-1, 2.4.3) are lost.

    No sign says so alone, for each may have a harmless cause. Packets are missing, as a channel's
    counter of four bits tells: streams were joined. The `video`'s channel begins more units of data
    than the `frames` that were found: it holds fields. Frames are not `even`, from a key frame on
    and at one rate, or not well `stamped`: it is a recording.
    """
    data = np.memmap(path, np.uint8, mode="r")
    packets = data[: len(data) // PACKET * PACKET].reshape(-1, PACKET)
    if len(packets) < 2 or not (packets[:2, 0] == SYNC).all():
        return False  # packets of another length, as cameras write them
    channel = np.left_shift(packets[:, 1] & 0x1F, 8, dtype=np.uint16) | packets[:, 2]
    begun = ((channel == video) & (packets[:, 1] & 0x40 > 0)).sum()
    missing = len(data) % PACKET > 0 or bool((packets[:, 0] != SYNC).any())
    missing = missing or _skips(packets, channel)
    more = bool(begun > frames)
    return (missing and not even) or (more and (missing or not even or not stamped))


def _skips(packets: NDArray[np.uint8], channel: NDArray[np.uint16]) -> bool:
    """Whether the counter of a channel skips a value without having said that it would."""
    counted = (packets[:, 3] & 0x10 > 0) & (channel != STUFFING)
    announced = (packets[:, 3] & 0x20 > 0) & (packets[:, 4] > 0) & (packets[:, 5] & 0x80 > 0)
    for number in np.unique(channel[counted]):
        of = counted & (channel == number)
        if ((np.diff(packets[of, 3] & 0x0F) % 16 > 1) & ~announced[of][1:]).any():
            return True
    return False


def _claim(file: BinaryIO, end: int) -> tuple[str, int]:
    """What claims to reach furthest, and how far."""
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        size = int.from_bytes(head[4:8], "little")
        return "RIFF chunk", 0 if size == PIPED else 8 + size
    return _boxes(file, end)


def _boxes(file: BinaryIO, end: int) -> tuple[str, int]:
    """The first box of an mp4 or mov that reaches behind the file's end."""
    place = 0
    while place < end:
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if head[4:8] in BOXES and place + length > end:
            return f"{head[4:8].decode()} box", place + length
        if length < 8:
            break
        place += length
    return "", 0
