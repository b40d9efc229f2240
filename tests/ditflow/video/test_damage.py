"""Fuzz damaged files: reading gives the right frames or a VideoError, never other frames.

No reader can see a bit that is flipped inside a picture without a check sum. The picture then
changes, and a codec that predicts pictures from each other may show an older one. So flipped bits
are tried only on codecs that predict nothing, where they can make a picture illegible, but not
another frame. Removing and overwriting bytes is tried on all. `DITFLOW_FUZZ` is the number of
damaged files.
"""

from __future__ import annotations

import os
import random
import warnings
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import av
import pytest

from ditflow.video import VideoError, read_video
from tests.numbered import numbers, write_numbered

COUNT = 40
TRIES = int(os.environ.get("DITFLOW_FUZZ", "300"))
INTRA = {
    "mjpeg.avi": "yuvj420p",
    "mjpeg.mov": "yuvj420p",
    "png.mov": "rgb24",
    "prores_ks.mov": "yuv422p10le",
    "huffyuv.avi": "yuv422p",
}
PREDICTED = [
    *("libx264.mp4", "libx264.mov", "libx264.mkv", "libx264.ts"),
    *("mpeg4.mp4", "mpeg4.avi", "mpeg4.mkv"),
    *("mpeg2video.ts", "libvpx.webm", "libvpx-vp9.webm"),
]
B_FRAMES = dict.fromkeys(("libx264", "mpeg4", "mpeg2video"), {"bf": "2", "g": "12"})


def cut_off(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(1, len(data)) :]


def removed(data: bytearray, draw: random.Random) -> None:
    place = draw.randrange(len(data))
    del data[place : place + draw.randrange(1, 400)]


def emptied(data: bytearray, draw: random.Random) -> None:
    place = draw.randrange(len(data))
    hole = data[place : place + draw.randrange(16, 400)]
    data[place : place + len(hole)] = bytes(len(hole))


def flipped(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice([1, 8])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


@cache
def whole(name: str) -> bytes:
    codec, container = name.split(".")
    path = Path(mkdtemp()) / f"clip.{container}"
    return write_numbered(
        path, codec, COUNT, pixels=INTRA.get(name, "yuv420p"), options=B_FRAMES.get(codec, {})
    ).read_bytes()


def outcome(path: Path) -> list[int | None] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a rate that varies where frames are missing
        try:
            return numbers(read_video(path).frames)
        except VideoError as error:
            assert str(path) in str(error)
            return None


FLIPPED = ("png.mov", "prores_ks.mov", "huffyuv.avi")  # in a JPEG a bit shifts all that follows
CASES = [
    *((name, damage) for name in [*INTRA, *PREDICTED] for damage in (cut_off, removed, emptied)),
    *((name, flipped) for name in FLIPPED),
]


@pytest.mark.parametrize(
    ("name", "damage"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_damaged_file_never_gives_other_frames(name, damage, tmp_path):
    path, refused = tmp_path / f"clip.{name.split('.')[1]}", 0
    for seed in range(TRIES // len(CASES)):
        data = bytearray(whole(name))
        damage(data, random.Random(seed))
        path.write_bytes(data)
        found = outcome(path)
        refused += found is None
        if found is not None:
            shorter = damage is cut_off or path.suffix == ".ts"  # which does not say how long it is
            assert len(found) == COUNT or shorter, f"seed {seed}: {len(found)} frames"
            assert all(number in (place, None) for place, number in enumerate(found)), (
                f"seed {seed}: {found}"
            )
    # a picture without a check sum may not show the other kinds of damage
    assert refused or damage in (emptied, flipped)


@pytest.mark.parametrize("name", [*INTRA, *PREDICTED])
def test_a_whole_file_is_not_refused_after_damaged_ones(name, tmp_path):
    """An error of FFmpeg about one file does not affect the next."""
    codec, container = name.split(".")
    (tmp_path / f"cut.{container}").write_bytes(whole(name)[: len(whole(name)) // 2])
    outcome(tmp_path / f"cut.{container}")
    (tmp_path / f"whole.{container}").write_bytes(whole(name))
    assert outcome(tmp_path / f"whole.{container}") == list(range(COUNT))


@pytest.mark.parametrize(
    "name", ["libx264.mp4", "libx264.mkv", "mpeg4.avi", "mpeg2video.ts", "libvpx-vp9.webm"]
)
def test_damage_behind_the_frames_asked_for_does_not_matter_if_the_container_is_whole(
    name, tmp_path
):
    path = tmp_path / f"clip.{name.split('.')[1]}"
    path.write_bytes(whole(name))
    before = read_video(path, frames=5).frames
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        end = bytes([packet for packet in packets if packet.pos is not None][-1])[-8:]
    data = bytearray(path.read_bytes())
    place = data.rindex(end) if end in data else 0
    data[place : place + 8] = bytes(8)
    path.write_bytes(data)
    assert (read_video(path, frames=5).frames == before).all()
