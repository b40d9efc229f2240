"""Files that were cut off: their containers claim more bytes than there are. A decoder, reading ahead, may or may not notice."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from ditflow.video.source import VideoError

TS_PACKET, TS_SYNC, TS_EMPTY = 188, 0x47, 0x1FFF  # of an MPEG transport stream: bytes, first byte, channel that only fills
BOXES = (b"moov", b"mdat", b"moof")
UNKNOWN = 0xFFFFFFFF  # the size of an AVI that was written to a pipe


def check_whole(path: Path) -> None:
    """Raises VideoError for an empty file, and for an mp4, mov or avi that was cut off."""
    end = path.stat().st_size
    if not end:
        raise VideoError(f"{path} is empty.")
    with open(path, "rb") as file:
        name, claimed = _claim(file, end)
    if claimed > end:
        raise VideoError(f"{path} was cut off: it has {end} bytes, and its {name} reaches to byte {claimed}. Copy or download it again.")


def _claim(file: BinaryIO, end: int) -> tuple[str, int]:
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        size = int.from_bytes(head[4:8], "little")
        return "RIFF chunk", 0 if size == UNKNOWN else size + 8
    return _last_box(file, end)


def _last_box(file: BinaryIO, end: int) -> tuple[str, int]:
    """The first box of a mp4 or mov that ends behind the file's end, or the last one that was found, and where it ends."""
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


def has_gaps(path: Path, video: int, frames: int) -> bool:
    """Whether packets of an MPEG transport stream are lost (ISO/IEC 13818-1, 2.4.3): their counters, four bits for each channel, skip a value, or
    the video's channel announces more units than the `frames` that were found in it."""
    data = np.memmap(path, np.uint8, mode="r")
    packets = data[: len(data) // TS_PACKET * TS_PACKET].reshape(-1, TS_PACKET)
    if len(data) < 2 * TS_PACKET or data[0] != TS_SYNC or data[TS_PACKET] != TS_SYNC:
        return False  # another length of packet, as cameras write it
    channel = (packets[:, 1].astype(int) & 0x1F) << 8 | packets[:, 2]
    units = (channel == video) & (packets[:, 1] & 0x40 > 0)
    counted = (packets[:, 3] & 0x10 > 0) & (channel != TS_EMPTY)
    excused = (packets[:, 3] & 0x20 > 0) & (packets[:, 4] > 0) & (packets[:, 5] & 0x80 > 0)
    for number in np.unique(channel[counted]):
        of = counted & (channel == number)
        if ((np.diff(packets[of, 3] & 0x0F) % 16 > 1) & ~excused[of][1:]).any():
            return True
    return bool(units.sum() > frames or (packets[:, 0] != TS_SYNC).any() or len(data) % TS_PACKET)
