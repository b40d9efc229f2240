"""Small clips that move, a manifest of them, and the command line in this process."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules.synthetic import World
from ditflow.bank import MotionBank
from ditflow.core.sizes import VideoSize
from ditflow.video import Clip, read_video, write_video
from tests.registry import SIZE, size_for, tiny_folder

NAMES = ("left", "right", "still.life")
QUICK = [
    "--model.steps",
    "4",
    "--model.window",
    "0.5",
    "--model.inner_steps",
    "2",
]  # two guided steps of four


def small(size: VideoSize = SIZE) -> list[str]:
    """Options of a command for clips of a size."""
    return ["--data.frames", str(size.frames), "--data.size", f"[{size.height},{size.width}]"]


SMALL = small()


def clip_of(seed: int = 0, size: VideoSize = SIZE) -> Clip:
    """A clip of noise."""
    shape = (size.frames, 3, size.height, size.width)
    frames = torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return Clip(frames, 8.0, Path("clips/car.mp4"), "0" * 64)


def write_clips(folder: Path, names: Sequence[str] = NAMES, size: VideoSize = SIZE) -> Path:
    """Clips of a sliding texture, two frames longer than `size`, and their manifest `clips.csv`."""
    for index, name in enumerate(names):
        texture = torch.randint(
            0,
            256,
            (3, size.height, size.width),
            dtype=torch.uint8,
            generator=torch.Generator().manual_seed(index),
        )
        write_video(
            folder / f"{name}.mp4",
            torch.stack(
                [texture.roll(2 * (index + 1) * frame, dims=-1) for frame in range(size.frames + 2)]
            ),
            8,
        )
    manifest = folder / "clips.csv"
    manifest.write_text("video,prompt\n" + "".join(f"{name}.mp4,a {name} cat\n" for name in names))
    return manifest


def write_moving(folder: Path, names: Sequence[str]) -> None:
    """Clips of the synthetic world, which can be followed from frame to frame."""
    world = World(SIZE)
    for seed, name in enumerate(names):
        write_video(folder / f"{name}.mp4", world.clip(seed).frames, 8)


def arguments(command: str, bank: Path, kind: str = "rotary", **data: object) -> list[str]:
    """Of a quick run on a tiny random backbone."""
    options = [part for key, value in data.items() for part in (f"--data.{key}", str(value))]
    quick = [*QUICK, *small(size_for(kind))] if command == "fit" else []
    return [
        command,
        "--model.backbone",
        str(tiny_folder(kind)),
        "--bank",
        str(bank),
        *quick,
        *options,
    ]


def assert_shows(path: Path, frames: Tensor) -> None:
    """Raise AssertionError unless a file holds these frames."""
    off = levels_off(path, frames)
    assert not off, f"the pixels of {path.name} are off by {off:.1f} levels"


def levels_off(path: Path, frames: Tensor) -> float:
    """How far the pixels of a file are from those of these frames, written as a file too."""
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "wanted.mp4", frames, 8.0)
        wanted = read_video(Path(folder) / "wanted.mp4").frames
    return float((read_video(path).frames.float() - wanted.float()).abs().mean())


def ditflow(monkeypatch, *words: str) -> int:
    """Run the command here and return its exit code; what it sets in this process is undone."""
    from trainers.cli import main

    monkeypatch.setattr(sys, "argv", ["ditflow", *words])
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with warnings.catch_warnings():
        try:
            return main(words)
        except SystemExit as stop:
            return int(stop.code or 0)


def whole_bank(folder: Path, clips: Path, *words: str, kind: str = "rotary") -> Path:
    """A bank of these clips in `folder`, made here without interruption."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert ditflow(monkeypatch, *arguments("fit", folder, kind, manifest=clips), *words) == 0
    return folder


def hashes(bank: Path) -> dict[str, str]:
    """What must be equal for two banks to be bit-identical."""
    entries = MotionBank(bank)
    return {name: entries[name].content_hash for name in entries}
