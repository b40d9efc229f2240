"""README and the pages of docs/ tell the truth: their commands and their Python run.

All runs in a folder with two clips of the synthetic world. A command that trains is made quick by
options at its end. One that needs published weights, other data or hours is parsed only.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from tests.clips import ditflow
from tests.pages import PAGES, blocks, commands, write_files

GUIDES = ["README.md", *(page for page in PAGES if page.startswith("docs/"))]
COMMANDS = sorted({command for page in GUIDES for command in commands(page)})
QUICK = shlex.split("--model.steps 3 --model.window 0.4 --model.inner_steps 1")


def starts(*words: str) -> list[str]:
    return [command for command in COMMANDS if command.startswith(words)]


AGAIN = "ditflow predict --again"  # which needs a video
CONFIGURED = [
    command
    for command in starts("ditflow fit", "ditflow predict", "ditflow test", "ditflow ablate")
    if not command.startswith(AGAIN)
]
HEAVY = ("cogvideox", "--trainer.devices")  # weights that are not here; one more process
FITS = [line for line in starts("ditflow fit") if not any(word in line for word in HEAVY)]
PYTHON = [(page, blocks(page, "python")) for page in GUIDES if blocks(page, "python")]


def starts_of_readme(word: str) -> list[str]:
    return [command for command in commands("README.md") if command.startswith(word)]


def quick(command: str) -> list[str]:
    """Options that make a command quick; instant motion has nothing to shorten."""
    return [] if "--method instant" in command else QUICK


def run(command: str, *more: str) -> int:
    """The exit code of a command of a page, run in this process."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return ditflow(monkeypatch, *shlex.split(command)[1:], *more)


def test_every_command_is_checked():
    assert set(COMMANDS) == {
        *CONFIGURED,
        *starts("make ", "ditflow bank", "ditflow report", "ditflow motion"),
        *starts("ditflow video", AGAIN),
    }
    assert len(FITS) >= 4 and starts("ditflow predict") and len(starts("ditflow bank")) >= 9


@pytest.fixture(scope="module")
def journey(tmp_path_factory) -> Path:
    """Where the first `fit` of each kind of the README has run, and its Python after them."""
    folder = tmp_path_factory.mktemp("journey")
    write_files(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for command in starts_of_readme("ditflow fit")[:2]:
            assert run(command, *quick(command)) == 0
        for text in blocks("README.md", "python"):
            exec(compile(text, "README.md", "exec"), {})
    return folder


@pytest.fixture
def place(journey, tmp_path, monkeypatch) -> Path:
    """A copy of the journey's folder for one command: some of them change what they find."""
    copy = tmp_path / "journey"
    shutil.copytree(journey, copy)
    monkeypatch.chdir(copy)
    return copy


def test_readme_makes_two_videos_and_an_entry(journey):
    from ditflow import MotionBank, read_video

    for name in ("blue.mp4", "red.mp4"):
        assert len(read_video(journey / name).frames) == 25
    assert list(MotionBank(journey / "motions")) == ["car"]


@pytest.mark.parametrize("command", [line for line in CONFIGURED if line not in FITS])
def test_commands_take_these_arguments(command, capsys):
    assert run(command, "--print_config") == 0
    assert "backbone:" in capsys.readouterr().out


@pytest.mark.parametrize("command", FITS)
def test_fit_takes_the_motion_of_every_clip(command, place, capsys):
    from ditflow import MotionBank

    assert run(command, *quick(command)) == 0
    if "--dry_run" in command:
        assert "Nothing was written" in capsys.readouterr().out
    else:
        words = shlex.split(command)
        assert sorted(MotionBank(words[words.index("--bank") + 1])) == ["car", "waves"]


@pytest.mark.parametrize("command", [line for line in CONFIGURED if "ditflow predict" in line])
def test_predict_makes_a_video_of_every_motion(command, place):
    words = shlex.split(command)
    assert run(command) == 0
    assert len(list((place / words[words.index("--out") + 1]).rglob("*.mp4"))) == 2


def test_a_video_is_shown_and_made_anew(place, capsys):
    predict, show, again = commands("docs/videos.md")
    assert run(predict, *QUICK[:2]) == 0
    assert run(show) == 0
    assert "red clouds" in capsys.readouterr().out
    assert run(again) == 0
    (video,) = (place / "videos" / "again").glob("*.mp4")
    assert video.name in again and "unlike" not in capsys.readouterr().out


@pytest.mark.parametrize("command", starts("ditflow bank"))
def test_bank_commands_run(command, place, capsys):
    assert run(command) == 0
    said = capsys.readouterr().out
    assert any(word in said for word in ("car", "entry", "entries", "2 of 2 clips", "0 files")), (
        said
    )


@pytest.mark.parametrize("command", starts("ditflow motion"))
def test_motion_draws_a_clip(command, place):
    assert run(command) == 0
    assert (place / "car-motion" / "motion.png").is_file()


@pytest.mark.parametrize("command", starts("ditflow report"))
def test_report_makes_a_page(command, place):
    from tests.runs import write_run

    folder = place / shlex.split(command)[2]
    write_run(folder)
    assert run(command) == 0
    assert (folder / "index.html").stat().st_size > 10_000


@pytest.mark.parametrize(("page", "texts"), [pair for pair in PYTHON if pair[0] != "README.md"])
def test_python_of_the_pages_runs(page, texts, place, capsys):
    """From top to bottom, as a reader types it."""
    names = {}
    for text in texts:
        exec(compile(text, page, "exec"), names)
    assert "car" in capsys.readouterr().out


def test_manifest_is_one(journey):
    from datamodules.manifest import read_manifest

    tasks = read_manifest(journey / "clips.csv")
    assert [task.name for task in tasks] == ["car", "waves"]
    assert all(Path(task.video).is_file() for task in tasks)


def test_prompts_of_the_benchmark_are_read(tmp_path):
    import json

    (prompts,) = blocks("docs/benchmark.md", "json")
    assert set(json.loads(prompts)["blackswan"]) == {"easy", "medium", "hard", "frame_range"}


def test_embedded_models_ship():
    from ditflow.resources import shipped

    for name in ("tiny-rope", "tiny-sincos", "tiny-wan", "tiny-clip"):
        assert shipped("checkpoints", name), name
