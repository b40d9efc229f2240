"""The losses of all clips are in the loggers, whichever rank optimised them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ditflow.bank import MotionBank
from tests.clips import arguments, ditflow, write_clips
from tests.ranks import Ranks

NAMES = [
    f"clip{number}" for number in range(8)
]  # so many that no rank can do them all before the other begins


def curves(file: Path) -> dict[str, dict[int, float]]:
    """Per clip: loss by step."""
    rows = list(csv.DictReader(file.open()))
    columns = {column for row in rows for column in row if column.startswith("loss/")}
    return {
        column.removeprefix("loss/"): {
            int(row["step"]): float(row[column]) for row in rows if row[column]
        }
        for column in columns
    }


def test_the_clips_of_every_rank_are_logged(tmp_path):
    manifest = write_clips(tmp_path, NAMES)
    logger = [
        "--trainer.logger",
        "CSVLogger",
        "--trainer.logger.save_dir",
        str(tmp_path / "logs"),
        "--trainer.logger.name",
        "run",
    ]
    ranks = Ranks(
        [*arguments("fit", tmp_path / "bank", manifest=manifest), *logger], 2, tmp_path / "log"
    )
    assert ranks.wait() == [0, 0], ranks.log.read_text()
    (folder,) = (tmp_path / "logs" / "run").iterdir()
    logged = curves(folder / "metrics.csv")
    assert folder.name == "version_0" and sorted(logged) == sorted(NAMES)
    for name, losses in logged.items():
        assert losses == pytest.approx(
            {
                step: curve[-1]
                for step, curve in enumerate(MotionBank(tmp_path / "bank").metadata(name).losses)
            }
        )


def test_a_clip_that_goes_on_is_logged_from_its_first_step(tmp_path, monkeypatch):
    manifest = write_clips(tmp_path, ["clip"])
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(tmp_path / "logs")]
    fit = [*arguments("fit", tmp_path / "bank", manifest=manifest), *logger]
    for more in (["--trainer.max_steps", "1"], []):
        with monkeypatch.context() as undone:
            ditflow(undone, *fit, *more)
    losses = MotionBank(tmp_path / "bank").metadata("clip").losses
    versions = [curves(file)["clip"] for file in sorted((tmp_path / "logs").rglob("metrics.csv"))]
    whole = {step: curve[-1] for step, curve in enumerate(losses)}
    assert versions == [pytest.approx({0: whole[0]}), pytest.approx(whole)]
