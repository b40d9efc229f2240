"""The Makefile's recipes, run with a python that only returns an exit code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("code", "succeeds", "said"),
    [(0, True, ""), (5, True, "No test is marked slow"), (1, False, ""), (2, False, "")],
)
def test_slow_takes_no_tests_for_a_success(tmp_path, code, succeeds, said):
    """pytest returns 5 where no test was selected."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "bin" / "python").chmod(0o755)
    for name in ("pyvenv.cfg", "installed"):
        (tmp_path / name).touch()
    done = subprocess.run(
        ["make", "slow", f"VENV={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode == 0) is succeeds and said in done.stdout, done.stdout + done.stderr
