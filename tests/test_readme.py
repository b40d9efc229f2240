"""The README tells the truth: its commands parse, its targets and files exist, its Python runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


COMMANDS = [line.split("#")[0].strip() for text in blocks("sh") for line in text.splitlines()]
CONFIGURED = [
    command
    for command in COMMANDS
    if command.startswith(("ditflow fit", "ditflow predict", "ditflow test", "ditflow ablate"))
]
BANK = [command for command in COMMANDS if command.startswith("ditflow bank")]


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def ditflow(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return python("-m", "trainers.cli", *arguments, cwd=cwd)


def test_every_command_is_checked():
    assert CONFIGURED and BANK
    assert [
        command
        for command in COMMANDS
        if command not in CONFIGURED
        and not command.startswith(("make ", "ditflow bank", "ditflow report"))
    ] == []


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_exist(file):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)(?=`|\s+#)", (ROOT / file).read_text(encoding="utf-8")))
    assert {"demo", "test"} <= named
    assert named - targets == set()


@pytest.mark.parametrize("command", CONFIGURED)
def test_commands_take_these_arguments(command):
    done = ditflow(*shlex.split(command)[1:], "--print_config")
    assert done.returncode == 0, done.stderr
    assert "backbone:" in done.stdout


@pytest.fixture(scope="module")
def journey(tmp_path_factory) -> Path:
    """A folder in which the README's Python has run, on a synthetic clip."""
    from datamodules.synthetic import World
    from ditflow import write_video

    folder = tmp_path_factory.mktemp("journey")
    (folder / "clips").mkdir()
    for name, motion in (("car", "pan"), ("waves", "zoom")):
        write_video(folder / "clips" / f"{name}.mp4", World().clip(0, motion).frames, 8.0)
    for text in blocks("python"):
        done = python("-c", text, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_python_makes_two_videos_and_an_entry(journey):
    from ditflow import MotionBank, read_video

    assert [read_video(journey / name).frames.shape[0] for name in ("blue.mp4", "red.mp4")] == [
        25,
        25,
    ]
    assert list(MotionBank(journey / "bank")) == ["car"]


@pytest.mark.parametrize("command", BANK)
def test_bank_commands_run(command, journey, tmp_path):
    """Each on a bank of its own: some of them change it."""
    shutil.copytree(journey / "bank", tmp_path / "bank")
    done = ditflow(*shlex.split(command)[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\bcar\b|1 entry|1 of 1 clips done|0 files of garbage", done.stdout), (
        done.stdout
    )


def test_manifest_is_one(journey):
    from datamodules.manifest import read_manifest

    (journey / "clips.csv").write_text(blocks("csv")[0])
    tasks = read_manifest(journey / "clips.csv")
    assert [task.name for task in tasks] == ["car", "waves"] and all(
        Path(task.video).is_file() for task in tasks
    )


def header(file: Path) -> str:
    """The comments that a YAML file begins with."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return "\n".join(takewhile(lambda line: line.startswith("#"), lines))


TEXTS = {
    file.name: file.read_text(encoding="utf-8")
    for file in (*sorted(ROOT.glob("*.md")), ROOT / "Makefile")
}
TEXTS |= {
    str(file.relative_to(ROOT)): header(file) for file in sorted((ROOT / "configs").rglob("*.yaml"))
}
NAMED = r"(?<![\w$/.-])(?:(?:configs|checkpoints|ditflow|datamodules|trainers|tests|motion|backbones|bank|\.ci)/[\w./-]*\w|[A-Z]+\.md)"


@pytest.mark.parametrize("name", TEXTS)
def test_named_files_exist(name):
    """Files by their path from the root or, as in the map of the house, from `ditflow/`; `bank`
    alone may be a user's own.
    """
    links = [
        link.partition("#")[0]
        for link in re.findall(r"\]\(([^)]+)\)", TEXTS[name])
        if not link.startswith(("http", "#"))
    ]
    named = [
        path
        for path in re.findall(NAMED, TEXTS[name])
        if not path.startswith(("bank/entries", "bank/failed"))
    ]
    assert name != "README.md" or (links and named)
    assert [
        path
        for path in links + named
        if not (ROOT / path).exists() and not (ROOT / "ditflow" / path).exists()
    ] == []


def test_modules_of_the_makefile_exist():
    modules = re.findall(r"-m ((?:tests|trainers)[\w.]+)", TEXTS["Makefile"])
    assert (
        modules
        and [
            module for module in modules if not (ROOT / f"{module.replace('.', '/')}.py").is_file()
        ]
        == []
    )


def test_the_map_names_what_exists():
    rows = re.findall(r"^  (\w+(?:\.py|/)) ", TEXTS["CONTRIBUTING.md"], flags=re.MULTILINE)
    assert {"grid.py", "bank/"} <= set(rows)
    assert [row for row in rows if not (ROOT / "ditflow" / row).exists()] == []


def test_embedded_backbones_ship():
    from ditflow.resources import shipped

    embedded = re.findall(r"^\| `([\w-]+)` \|.*embedded", README, flags=re.MULTILINE)
    assert embedded == ["tiny-rope", "tiny-sincos"]
    assert all(shipped("checkpoints", name) for name in embedded)


def test_names_from_the_library_exist():
    import ditflow

    for text in blocks("python"):
        for line in re.findall(r"from ditflow import (.*)", text):
            assert [name for name in line.split(", ") if not hasattr(ditflow, name)] == []
    assert hasattr(ditflow, "cite")
