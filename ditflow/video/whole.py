"""Check that a container is as long as it claims, since a decoder may not notice if it is not."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ditflow.video.source import VideoError

BOXES = (b"moov", b"mdat", b"moof")  # of mp4 and mov
PIPED = 0xFFFFFFFF  # size in the header of an AVI that was written to a pipe
PACKET, SYNC = 188, 0x47  # length and first byte of a packet of a transport stream
STUFFING = 0x1FFF  # channel of the packets that carry nothing


def check_whole(path: Path) -> None:
    """Raise VideoError if a file is empty, or if its container claims more bytes than it has."""
    end = path.stat().st_size
    if not end:
        raise VideoError(f"{path} is empty. Copy or download it again.")
    with open(path, "rb") as file:
        name, claimed = _claim(file, end)
    if claimed > end:
        reaches = f"it has {end} bytes, and its {name} reaches to byte {claimed}"
        raise VideoError(f"{path} was cut off: {reaches}. Copy or download it again.")


def loses_frames(path: Path, video: int, frames: int, *, even: bool, stamped: bool) -> bool:
    """Whether frames of an MPEG transport stream (ISO/IEC 13818-1, 2.4.3) are lost.

    Each sign of loss may have a harmless cause, so that one alone is not enough:
    - Packets are missing, as the four-bit counter of a channel tells. Or streams were joined.
    - The channel `video` begins more units of data than the `frames` found. Or it holds fields.
    - The frames are not `even`: from a key frame on, at one rate. Or not well `stamped`, with
      different time stamps. Or it is a recording.
    """
    data = np.memmap(path, np.uint8, mode="r")
    packets = data[: len(data) // PACKET * PACKET].reshape(-1, PACKET)
    if len(packets) < 2 or not (packets[:2, 0] == SYNC).all():
        return False  # packets of another length, as from cameras
    channel = np.left_shift(packets[:, 1] & 0x1F, 8, dtype=np.uint16) | packets[:, 2]
    begun = ((channel == video) & (packets[:, 1] & 0x40 > 0)).sum()
    missing = len(data) % PACKET > 0 or bool((packets[:, 0] != SYNC).any())
    missing = missing or _skips(packets, channel)
    more = bool(begun > frames)
    return (missing and not even) or (more and (missing or not even or not stamped))


def _skips(packets: NDArray[np.uint8], channel: NDArray[np.uint16]) -> bool:
    """Whether the counter of a channel skips a value without having announced it."""
    counted = (packets[:, 3] & 0x10 > 0) & (channel != STUFFING)
    announced = (packets[:, 3] & 0x20 > 0) & (packets[:, 4] > 0) & (packets[:, 5] & 0x80 > 0)
    for number in np.unique(channel[counted]):
        of = counted & (channel == number)
        if ((np.diff(packets[of, 3] & 0x0F) % 16 > 1) & ~announced[of][1:]).any():
            return True
    return False


def _claim(file: BinaryIO, end: int) -> tuple[str, int]:
    """The part of the file that claims to reach furthest, and the byte that it claims to reach."""
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        size = int.from_bytes(head[4:8], "little")
        return "RIFF chunk", 0 if size == PIPED else 8 + size
    return _boxes(file, end)


def _boxes(file: BinaryIO, end: int) -> tuple[str, int]:
    """The first box of an mp4 or mov that reaches beyond the end of the file, and its end."""
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
