"""The recipes of CONTRIBUTING.md, followed word for word in a copy of the repository.

A recipe shows a new file as a Python block after the file's name, and the lines that change in a
table as a diff. Both are taken from the text itself, so a recipe that no longer works fails here.
What was added is used by tests/recipe_checks.py, in one process.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT

CONTRIBUTING = PAGES["CONTRIBUTING.md"]
RECIPES = re.findall(r"^## (Add an? .*)$", CONTRIBUTING, flags=re.MULTILINE)
FILES = dict(re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", CONTRIBUTING, flags=re.DOTALL))
DIFFS = re.findall(r"```diff\n--- (\S+)\n(.*?)```", CONTRIBUTING, flags=re.DOTALL)
SIGNAL = "Add a motion signal"  # which the contract tests check
CHECKS = ("tests/recipe_checks.py", "tests/ditflow/motion/test_signals.py")
FOLDERS = ("ditflow", "datamodules", "trainers", "configs", "docs", "tests")
COPIED = (*FOLDERS, *PAGES, "setup.cfg", "pyproject.toml")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the repository in which all recipes have been followed."""
    folder = tmp_path_factory.mktemp("recipes")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        elif not (folder / name).exists():
            shutil.copy(ROOT / name, folder / name)
    (folder / "checkpoints").symlink_to(ROOT / "checkpoints")
    for name, source in FILES.items():
        assert not (folder / name).exists(), f"the recipe's {name} is there already"
        (folder / name).write_text(source)
    for name, diff in DIFFS:
        for hunk in diff.split("@@\n"):
            change(folder / name, hunk.splitlines())
    return folder


def change(file: Path, lines: list[str]) -> None:
    """Apply one hunk of a diff, whose old lines are in the file exactly once."""
    before, after = (
        "".join(f"{line[1:]}\n" for line in lines if not line.startswith(sign)) for sign in "+-"
    )
    source = file.read_text()
    assert source.count(before) == 1, f"{file.name} no longer has these lines once:\n{before}"
    file.write_text(source.replace(before, after))


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run in the copy, which python imports before the repository."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def said(copy) -> str:
    """What pytest says of the checks and of the contract tests of the new signal."""
    options = (
        "-rA",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-k",
        "recipe_checks or change]",
    )
    done = python(copy, "-m", "pytest", *options, *CHECKS)
    return done.stdout + done.stderr


@pytest.mark.parametrize("title", [title for title in RECIPES if title != SIGNAL])
def test_a_recipe_works(title, said):
    assert f"PASSED tests/recipe_checks.py::test_{title.lower().replace(' ', '_')}" in said, said


def test_a_signal_passes_the_contract_tests(said):
    """Guided steps with every model and variable among them."""
    assert said.count("PASSED tests/ditflow/motion/test_signals.py") >= 12, said
    assert "FAILED tests/ditflow/motion/test_signals.py" not in said, said


def test_recipes_are_as_clean_as_the_code(copy, said):
    assert "PASSED tests/recipe_checks.py::test_files_are_on_their_floors" in said, said
    for arguments in (("check",), ("format", "--check")):
        done = python(copy, "-m", "ruff", *arguments, *FILES)
        assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_a_recipe_for_each_thing_to_add():
    rows = re.findall(r"^\| an? ([\w ]+) \|.*\(#(\S+)\) \|$", CONTRIBUTING, flags=re.MULTILINE)
    anchors = {title.lower().replace(" ", "-") for title in RECIPES}
    assert {anchor for _, anchor in rows} == anchors and len(anchors) >= 6
