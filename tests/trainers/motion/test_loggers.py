"""The losses of all clips are in the loggers, each rank's in its own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ditflow.bank import MotionBank
from tests.clips import arguments, write_clips

ROOT = Path(__file__).resolve().parents[3]
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


def test_every_rank_logs_its_clips(tmp_path):
    manifest = write_clips(tmp_path, NAMES)
    logger = [
        "--trainer.logger",
        "CSVLogger",
        "--trainer.logger.save_dir",
        str(tmp_path / "logs"),
        "--trainer.logger.name",
        "run",
    ]
    ranks = [
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        "2",
        "--trainer.enable_progress_bar",
        "false",
    ]
    command = [
        sys.executable,
        "-m",
        "trainers.cli",
        *arguments("fit", tmp_path / "bank", manifest=manifest),
        *logger,
        *ranks,
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    logged = [
        curves(tmp_path / "logs" / "run" / version / "metrics.csv")
        for version in ("version_0", "version_0-rank1")
    ]
    assert sorted([*logged[0], *logged[1]]) == sorted(NAMES) and all(logged), (
        "each clip is logged by the rank that did it, and each did one at least"
    )
    for name, losses in (logged[0] | logged[1]).items():
        assert losses == pytest.approx(
            {
                step: curve[-1]
                for step, curve in enumerate(MotionBank(tmp_path / "bank").metadata(name).losses)
            }
        )
