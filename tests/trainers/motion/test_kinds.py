"""`fit` makes the same bank on every kind of model, bit by bit, whoever makes it: one process, two,
or one that is killed and started again.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from ditflow.bank import MotionBank
from tests.clips import arguments, hashes, whole_bank, write_clips
from tests.ranks import Ranks, at_step
from tests.registry import BOTH, LONGER, PICTURED, SOME


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Two clips and their manifest, and a picture."""
    folder = tmp_path_factory.mktemp("files")
    write_clips(folder, ("left", "right"), LONGER)
    Image.new("RGB", (48, 32), "red").save(folder / "cat.png")
    return folder


def picture(kind: str, folder: Path) -> list[str]:
    return ["--data.image", str(folder / "cat.png")] if kind in PICTURED else []


def whole(kind: str, files: Path) -> dict[str, str]:
    """What is in the bank that one process made."""
    if not (files / kind).exists():
        whole_bank(files / kind, files / "clips.csv", *picture(kind, files), kind=kind)
    return hashes(files / kind)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fit(kind: str, files: Path, bank: Path) -> list[str]:
    return [*arguments("fit", bank, kind, manifest=files / "clips.csv"), *picture(kind, files)]


@pytest.mark.parametrize("kind", SOME)
def test_two_ranks_make_the_bank_of_one(kind: str, files: Path, tmp_path: Path) -> None:
    ranks = Ranks(fit(kind, files, tmp_path / "bank"), 2, tmp_path / "log")
    assert ranks.wait() == [0, 0], ranks.log.read_text()
    assert hashes(tmp_path / "bank") == whole(kind, files)


@pytest.mark.parametrize("kind", [kind for kind in SOME if kind != BOTH])
def test_killed_in_a_clip_a_fit_goes_on_to_the_same_bank(
    kind: str, files: Path, tmp_path: Path
) -> None:
    """Killed between the two guided steps of the second clip. The first clip is not done again: at
    most two of all four steps are left, or one where the step was saved before the kill.
    """
    words, bank = fit(kind, files, tmp_path / "bank"), tmp_path / "bank"
    killed = Ranks(words, 1, tmp_path / "log", first=at_step(4, die))
    assert killed.wait() == [-signal.SIGKILL], killed.log.read_text()
    assert list(MotionBank(bank)) == ["left"]
    again = Ranks(words, 1, tmp_path / "log", first=at_step(3, die))
    assert again.wait() == [0], again.log.read_text()
    assert hashes(bank) == whole(kind, files)
