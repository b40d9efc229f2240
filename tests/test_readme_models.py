"""README's Python and its commands run on every kind of model, not only on the one that they name.

The text is README's own. A model, the size of its clips and, where it needs one, a picture are put
into it, as docs/models.md says; and what is recommended for a model is made quick.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ditflow import MotionBank, read_video
from ditflow.core.sizes import VideoSize
from ditflow.models import presets
from tests.clips import ditflow, small
from tests.pages import blocks, commands, write_files
from tests.registry import BACKBONES, PICTURED, SIZE, SOME, size_for, tiny_folder

KINDS = ("tiny-wan", *SOME)
NEED_A_PICTURE = tuple(kind for kind in PICTURED if kind != "wan22-5b-i2v")
SHORT = {"steps": 3, "window": 0.4, "inner_steps": 1}  # one guided step
FEW = shlex.split(  # of a benchmark
    "--data.clips 1 --setups [instant] --zero_shot [] --baseline instant "
    "--metrics.names [motion_cosine] --model.steps 2"
)
CONFIG = " --config configs/tiny-rope.yaml"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with all that README names, and a picture; models with short recommendations."""
    write_files(tmp_path)
    Image.new("RGB", (SIZE.width, SIZE.height), "red").save(tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    short = tuple(
        replace(preset, recommended=replace(preset.recommended, **SHORT))
        for preset in presets.presets()
    )
    monkeypatch.setattr(presets, "presets", lambda: short)


def name_of(kind: str) -> str:
    return str(tiny_folder(kind)) if kind in BACKBONES else kind


def size_of(kind: str) -> VideoSize:
    return size_for(kind) if kind in BACKBONES else VideoSize(25, 64, 64)


def run(command: str, kind: str, *more: str) -> int:
    """The exit code of a command of README, with another model for its own."""
    words = [*shlex.split(command.replace(CONFIG, ""))[1:], "--model.backbone", name_of(kind)]
    words += [*(small(size_of(kind)) if kind in BACKBONES else ()), *more]
    with pytest.MonkeyPatch.context() as monkeypatch:

        def started(words: list[str]) -> int:  # here, and not in a process of its own
            return ditflow(monkeypatch, *words)

        monkeypatch.setattr("trainers.benchmark.run.run_ditflow", started)
        return ditflow(monkeypatch, *words)


def of_readme(words: str) -> list[str]:
    return [command for command in commands("README.md") if command.startswith(words)]


@pytest.mark.parametrize("kind", KINDS)
def test_python(kind: str) -> None:
    (text,) = blocks("README.md", "python")
    size = size_of(kind)
    changes = {
        '"tiny-rope"': repr(name_of(kind)),
        "frames=25, size=(64, 64)": f"frames={size.frames}, size=({size.height}, {size.width})",
    }
    if kind in PICTURED:
        changes["seed=0"] = 'seed=0, image=ditflow.read_image("cat.png")'
        changes["seed=1"] = 'seed=1, image=ditflow.read_image("cat.png")'
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    exec(compile(text, "README.md", "exec"), {})
    assert list(MotionBank("motions/")) == ["car"]
    for name in ("blue.mp4", "red.mp4"):
        assert read_video(name).frames.shape == (size.frames, 3, size.height, size.width)


@pytest.mark.parametrize("kind", KINDS)
def test_fit_and_predict(kind: str) -> None:
    fits, (predict,) = of_readme("ditflow fit"), of_readme("ditflow predict")
    picture = ["--data.image", "cat.png"] if kind in PICTURED else []
    for fit, bank in zip(fits, ("instant/", "bank/"), strict=True):
        assert run(fit, kind, *(() if "--method instant" in fit else picture)) == 0
        assert sorted(MotionBank(bank)) == ["car", "waves"]
        assert run(predict.replace("instant/", bank), kind, "--out", f"of-{bank}", *picture) == 0
        assert len(list(Path(f"of-{bank}").glob("*.mp4"))) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_benchmark(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    (test,) = of_readme("ditflow test")
    code, said = run(test, kind, *FEW), capsys.readouterr()
    if kind in NEED_A_PICTURE:
        assert code == 2 and "makes a picture move, and a benchmark's video has none" in said.err
        assert "or test a text-to-video model" in said.err and not Path("runs").exists()
    else:
        assert code == 0 and "3 of 3 videos made and measured" in said.out
