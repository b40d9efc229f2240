"""The starter bank: motion fields of clips of the synthetic world, whose motion is chosen.

    python -m trainers.pretraining.starter --out checkpoints/banks/starter

Each run makes the same entries, up to rounding, and the search index beside them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.synthetic import SyntheticClip
from datamodules.synthetic.directed import Course, Shot, Thing
from ditflow.bank import FieldEntry, MotionBank, Provenance
from ditflow.bank.kinds import KINDS
from ditflow.bank.records import Records
from ditflow.bank.search import rows
from ditflow.bank.storage import LocalFolder, ShippedFolder
from ditflow.core.sizes import VideoSize
from ditflow.fields.sources import DIS
from ditflow.video import Clip
from trainers.motion.instant import field_entry

SIZE, FPS = VideoSize(25, 96, 96), 8.0
DATE = "2026-11-27T00:00:00+00:00"  # of the recipe: a run leaves no trace of its own
READER = "drawn, not read from a file"
CAPTION = "clouds and sprites of ditflow's synthetic world"
TAGS = ("synthetic", "licence: Apache-2.0")


@dataclass(frozen=True)
class Starter:
    """A shot, and what happens in it, in the words that a search takes."""

    words: str
    shot: Shot


def _camera(
    words: str,
    way: tuple[float, float] = (0.0, 0.0),
    *,
    grow: float = 0.0,
    roll: float = 0.0,
    bend: float = 0.0,
    back: bool = False,
) -> Starter:
    return Starter(words, Shot(Course(way, bend, back), grow, roll))


def _things(words: str, *things: Thing, camera: tuple[float, float] = (0.0, 0.0)) -> Starter:
    return Starter(words, Shot(Course(camera), things=things))


def _across(x: float, y: float, *, back: bool = False) -> Thing:
    """A thing that moves by so much, and is in the middle half way."""
    return Thing(Course((x, y), back=back), (-x / 2, -y / 2))


def _small(way: tuple[float, float], start: tuple[float, float]) -> Thing:
    return Thing(Course(way), start, radius=0.16)


STARTERS = {  # by place, a clip has its seed: new ones are added at the end
    "pan-left": _camera("pan left", (-0.25, 0)),
    "pan-left-slow": _camera("slow pan left", (-0.08, 0)),
    "pan-left-fast": _camera("fast pan left", (-0.55, 0)),
    "pan-right": _camera("pan right", (0.25, 0)),
    "pan-right-slow": _camera("slow pan right", (0.08, 0)),
    "pan-right-fast": _camera("fast pan right", (0.55, 0)),
    "tilt-up": _camera("tilt up", (0, -0.25)),
    "tilt-down": _camera("tilt down", (0, 0.25)),
    "pan-left-tilt-up": _camera("pan left, tilt up", (-0.25, -0.25)),
    "pan-left-tilt-down": _camera("pan left, tilt down", (-0.25, 0.25)),
    "pan-right-tilt-up": _camera("pan right, tilt up", (0.25, -0.25)),
    "pan-right-tilt-down": _camera("pan right, tilt down", (0.25, 0.25)),
    "zoom-in": _camera("zoom in", grow=0.35),
    "zoom-in-slow": _camera("slow zoom in", grow=0.08),
    "zoom-in-fast": _camera("fast zoom in", grow=0.75),
    "zoom-out": _camera("zoom out", grow=-0.35),
    "zoom-out-slow": _camera("slow zoom out", grow=-0.08),
    "zoom-out-fast": _camera("fast zoom out", grow=-0.75),
    "roll-clockwise": _camera("roll clockwise", roll=35),
    "roll-clockwise-slow": _camera("slow roll clockwise", roll=8),
    "roll-counterclockwise": _camera("roll counterclockwise", roll=-35),
    "roll-counterclockwise-slow": _camera("slow roll counterclockwise", roll=-8),
    "zoom-in-roll-clockwise": _camera("zoom in, roll clockwise", grow=0.35, roll=35),
    "zoom-out-roll-counterclockwise": _camera(
        "zoom out, roll counterclockwise", grow=-0.35, roll=-35
    ),
    "pan-right-zoom-in": _camera("pan right, zoom in", (0.25, 0), grow=0.35),
    "arc-right": _camera("pan right, tilt down", (0.4, 0), bend=120),
    "orbit": _camera("tilt down, comes back", (0.8, 0), bend=360),
    "sway": _camera("pan right, comes back", (0.25, 0), back=True),
    "breathe": _camera("zoom in, comes back", grow=0.35, back=True),
    "thing-moves-left": _things("camera still, one thing left", _across(-0.45, 0)),
    "thing-moves-right": _things("camera still, one thing right", _across(0.45, 0)),
    "thing-moves-up": _things("camera still, one thing up", _across(0, -0.45)),
    "thing-moves-down": _things("camera still, one thing down", _across(0, 0.45)),
    "thing-bounces": _things(
        "camera still, one thing down, comes back", _across(0, 0.45, back=True)
    ),
    "thing-orbits": _things(
        "camera still, one thing down, comes back", Thing(Course((1.1, 0), 360), (0, -0.2), 0.18)
    ),
    "two-things-part": _things(
        "camera still, one thing left, one thing right",
        _small((-0.3, 0), (-0.12, -0.2)),
        _small((0.3, 0), (0.12, 0.2)),
    ),
    "two-things-rise": _things(
        "camera still, two things up",
        _small((0, -0.4), (-0.25, 0.2)),
        _small((0, -0.4), (0.25, 0.2)),
    ),
    # what stands still in the world moves against the camera
    "pan-left-thing-moves-up": _things(
        "pan left, one thing up", _across(0.25, -0.4), camera=(-0.25, 0)
    ),
    "follow-right": _things("pan right, one thing right", _across(0, 0), camera=(0.4, 0)),
}


def starter_shot(name: str) -> SyntheticClip:
    """The clip of an entry, with its exact motion."""
    return STARTERS[name].shot.clip(name, seed=list(STARTERS).index(name), size=SIZE)


def starter_entry(name: str) -> FieldEntry:
    """An entry, made anew."""
    clip = Clip(starter_shot(name).frames, FPS, Path(name), "", reader=READER)
    told = Provenance(name, "", "", "", 0, TAGS, reader=clip.reader, caption=CAPTION)
    entry = field_entry(clip, DIS, told)
    return replace(entry, metadata=replace(entry.metadata, date=DATE, seconds=0.0))


def write_starter(out: str | os.PathLike[str], names: Iterable[str] = STARTERS) -> None:
    """The bank of these entries, which replace those of their names."""
    bank = MotionBank(out, create=True)
    for name in names:
        bank.put(name, starter_entry(name), overwrite=True)
    ships = ShippedFolder(os.fspath(out))
    entries = Records(ships, "entries", "entry", tuple(KINDS))
    LocalFolder(os.fspath(out)).write(rows.FILE, rows.packed(rows.current(ships, entries)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="checkpoints/banks/starter", help="its folder")
    write_starter(parser.parse_args().out)


if __name__ == "__main__":
    main()
