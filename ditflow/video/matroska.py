"""Check that the elements of a Matroska or WebM file fit into each other (RFC 9559, RFC 8794).

Where an element does not fit, a demuxer silently skips to the next one that it knows. Frames in
between are lost. The pictures themselves are not checked.
"""

from __future__ import annotations

import mmap
from pathlib import Path

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
VOID, CRC = 0xEC, 0xBF  # allowed everywhere
IN_SEGMENT = {
    *(CLUSTER, VOID, CRC, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B),
    *(0x1941A469, 0x1043A770, 0x1254C367),  # attachments, chapters, tags
}
IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0x5854, 0xAF, VOID, CRC}  # its time, its blocks, ...


class MisfitError(ValueError):
    """An element does not fit into the one around it. `place` is its first byte."""

    def __init__(self, place: int) -> None:
        super().__init__(f"the element at byte {place} does not fit")
        self.place = place


def misfit(path: Path) -> int | None:
    """First byte of the first element that does not fit into the one around it; None if all fit."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            _check(data)
        except MisfitError as error:
            return error.place
    return None


def _check(data: mmap.mmap) -> None:
    _, header, end = _element(data, 0, len(data))
    name, place, end = _element(data, header if end is None else end, len(data))
    if name != SEGMENT:
        raise MisfitError(0)
    end = len(data) if end is None else end
    while place < end:
        name, inner, behind = _element(data, place, end)
        if name not in IN_SEGMENT:
            raise MisfitError(place)
        if name != CLUSTER:
            place = end if behind is None else behind
        elif behind is None:
            place = _live_cluster(data, inner, end)
        else:
            place = _cluster(data, inner, behind)


def _cluster(data: mmap.mmap, place: int, end: int) -> int:
    """The end of a cluster that states its length."""
    while place < end:
        name, _, behind = _element(data, place, end)
        if name not in IN_CLUSTER:
            raise MisfitError(place)
        place = end if behind is None else behind
    return place


def _live_cluster(data: mmap.mmap, place: int, end: int) -> int:
    """The end of a cluster that does not state its length: the next element of the segment."""
    while place < end:
        name, _, behind = _element(data, place, end)
        if name in IN_SEGMENT - IN_CLUSTER:
            break
        if name not in IN_CLUSTER or behind is None:
            raise MisfitError(place)
        place = behind
    return place


def _element(data: mmap.mmap, place: int, end: int) -> tuple[int, int, int | None]:
    """The name of an element, where its content begins, and where it ends if that is stated."""
    length = _length(data, place, end)
    name = int.from_bytes(data[place : place + length], "big")
    length, size_at = _length(data, place + length, end), place + length
    inner = size_at + length
    size = int.from_bytes(data[size_at:inner], "big") & (1 << 7 * length) - 1
    if size == (1 << 7 * length) - 1:
        return name, inner, None
    if inner + size > end:
        raise MisfitError(place)
    return name, inner, inner + size


def _length(data: mmap.mmap, place: int, end: int) -> int:
    """Number of bytes of a number, which its leading zero bits tell."""
    length = 9 - data[place].bit_length() if place < end else 9
    if length > 8 or place + length > end:
        raise MisfitError(place)
    return length
