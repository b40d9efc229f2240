"""The recipes of CONTRIBUTING.md, followed word for word in a copy of the repository.

A recipe shows a new file as a Python block after the file's name, and the lines that change in a
table as a diff. Both are taken from the text itself, so a recipe that no longer works fails here.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT

CONTRIBUTING = PAGES["CONTRIBUTING.md"]
TITLES = re.findall(r"^## (Add an? .*)$", CONTRIBUTING, flags=re.MULTILINE)
FOLDERS = ("ditflow", "datamodules", "trainers", "configs", "tests")
COPIED = (*FOLDERS, "setup.cfg", "pyproject.toml", "CONTRIBUTING.md")
FILE = re.compile(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", flags=re.DOTALL)
DIFF = re.compile(r"```diff\n--- (\S+)\n(.*?)```", flags=re.DOTALL)


def recipe(title: str) -> str:
    """The section of CONTRIBUTING.md with this heading."""
    return CONTRIBUTING.split(f"\n## {title}\n")[1].split("\n## ")[0]


def follow(text: str, folder: Path) -> None:
    """Write the files that a recipe shows, and change the lines that it changes."""
    files, diffs = FILE.findall(text), DIFF.findall(text)
    assert files, "a recipe shows a file"
    for name, source in files:
        assert not (folder / name).exists(), f"the recipe's {name} is there already"
        (folder / name).write_text(source)
    for name, diff in diffs:
        for hunk in diff.split("@@\n"):
            change(folder / name, hunk.splitlines())


def change(file: Path, lines: list[str]) -> None:
    before, after = (
        "".join(f"{line[1:]}\n" for line in lines if not line.startswith(sign)) for sign in "+-"
    )
    before = before.lstrip("\n") if lines[0].startswith("+") else before
    source = file.read_text()
    assert source.count(before) == 1, f"{file.name} no longer has these lines once:\n{before}"
    file.write_text(source.replace(before, after))


@pytest.fixture
def copy(tmp_path, request) -> Path:
    """A copy of the repository in which the recipes of the test have been followed."""
    for name in COPIED:
        kind = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        kind(ROOT / name, tmp_path / name)
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    for title in request.param:
        follow(recipe(title), tmp_path)
    return tmp_path


def follows(title: str):
    return pytest.mark.parametrize("copy", [[title]], indirect=True, ids=[""])


def run(folder: Path, *arguments: str) -> str:
    """What python prints in the copy, which it imports before the repository."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@follows("Add a motion signal")
def test_a_signal_takes_guided_steps_with_every_variable(copy):
    """By the contract tests, on rotary and sinusoidal models."""
    contract = "tests/ditflow/motion/test_signals.py"
    said = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", contract, "-k", "change]")
    assert int(re.search(r"(\d+) passed", said)[1]) >= 12 and "failed" not in said


@follows("Add a control")
def test_a_control_acts_in_sample(copy):
    check = """
import torch
from ditflow.sampling.control import Prompt
from ditflow.sampling.first_frame import FirstFrame
from ditflow.sampling.loop import sample
from ditflow.sampling.state import start
from tests.registry import SIZE, tiny_backbone

model = tiny_backbone("rotary")
prompt = Prompt(*model.embed(["a dog", ""]).split(1))
state = start(model, SIZE, ["clip"], [0])
frame = torch.ones_like(state.noise[:, :1])
schedule = model.schedule(2)
plain = sample(model, schedule, prompt, state).latents
kept = sample(model, schedule, prompt, state, FirstFrame(frame)).latents
assert torch.equal(kept[:, :1], frame)
assert not torch.equal(kept[:, 1:], plain[:, 1:])
"""
    run(copy, "-c", check)


@follows("Add a model family")
def test_a_family_is_found_and_asks_for_what_the_recipe_lists(copy, tmp_path):
    """Loading ends at the first abstract member, and the recipe lists all of them."""
    index = {
        "_class_name": "Pipeline",
        "transformer": ["diffusers", "SkyReelsV2Transformer3DModel"],
    }
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index))
    check = """
from ditflow import load_backbone
from ditflow.models.skyreels import SkyReels

SkyReels.load = classmethod(lambda family, folder, **options: family)
assert load_backbone("model") is SkyReels
print(sorted(SkyReels.__abstractmethods__))
"""
    rows = re.findall(r"^\| (`.*?) \|", recipe("Add a model family"), flags=re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(ast.literal_eval(run(copy, "-c", check))) == listed


@follows("Add a metric")
def test_a_metric_computes(copy):
    check = """
import torch
from ditflow.metrics import Sample, make_metrics

black = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
metric = make_metrics(["colour_distance"])["colour_distance"]
metric.update([Sample(black, black), Sample(black, black + 255)])
print([round(row.value ** 2, 6) for row in metric.rows()])
"""
    assert run(copy, "-c", check).strip() == "[0.0, 3.0]"


@follows("Add a command")
def test_a_command_answers(copy):
    import torch

    from ditflow import write_video

    write_video(copy / "clip.mp4", torch.zeros(5, 3, 32, 48, dtype=torch.uint8), 8.0)
    assert run(copy, "-m", "trainers.cli", "frames", "clip.mp4") == "5 frames of 32 x 48\n"


@follows("Add a page")
def test_a_page_is_written(copy):
    import torch

    from ditflow import write_video

    for name in ("one", "two"):
        write_video(copy / f"{name}.mp4", torch.zeros(5, 3, 32, 48, dtype=torch.uint8), 8.0)
    check = """
from pathlib import Path
from ditflow.visual import write_page
from trainers.report.clips import page_of_clips

write_page("clips.html", page_of_clips(sorted(Path().glob("*.mp4"))))
"""
    run(copy, "-c", check)
    page = (copy / "clips.html").read_text(encoding="utf-8")
    assert page.count("data:video/mp4") == 2 and "clip-1" in page


def test_every_recipe_is_followed():
    source = Path(__file__).read_text(encoding="utf-8")
    assert [title for title in TITLES if f'@follows("{title}")' not in source] == []
    assert len(TITLES) >= 6


@pytest.mark.parametrize("copy", [TITLES], indirect=True, ids=[""])
def test_recipes_are_as_clean_as_the_code(copy):
    """All of them together: formatted, without a finding of ruff, and on their floors."""
    files = [name for name, _ in FILE.findall(CONTRIBUTING)]
    run(copy, "-m", "ruff", "check", *files)
    run(copy, "-m", "ruff", "format", "--check", *files)
    modules = [name[:-3].replace("/", ".") for name in files]
    check = f"""
from tests.test_floors import PACKAGES, allowed, imports_of

for module in {modules}:
    ours = [other for other in imports_of(module) if other.split(".")[0] in PACKAGES]
    assert all(allowed(module, other) for other in ours), module
"""
    run(copy, "-c", check)
