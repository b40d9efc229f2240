"""What the recipes of CONTRIBUTING.md add is used here, through the interfaces that users have.

These run in the copy of the repository that tests/test_recipes.py makes, where the recipes have
been followed. A check has the name of its recipe.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import torch

from tests.pages import PAGES, ROOT


@pytest.fixture
def clips(tmp_path, monkeypatch) -> list[Path]:
    from ditflow import write_video

    monkeypatch.chdir(tmp_path)
    for name in ("one.mp4", "two.mp4"):
        write_video(name, torch.zeros(5, 3, 32, 48, dtype=torch.uint8), 8.0)
    return sorted(Path().glob("*.mp4"))


def test_add_a_control():
    """It acts in `sample`."""
    from ditflow.sampling.control import Prompt
    from ditflow.sampling.first_frame import FirstFrame
    from ditflow.sampling.loop import sample
    from ditflow.sampling.state import start
    from tests.registry import SIZE, tiny_backbone

    model = tiny_backbone("rotary")
    prompt = Prompt(*model.embed(["a dog", ""]).split(1))
    state, schedule = start(model, SIZE, ["clip"], [0]), model.schedule(2)
    frame = torch.ones_like(state.noise[:, :1])
    plain = sample(model, schedule, prompt, state).latents
    kept = sample(model, schedule, prompt, state, FirstFrame(frame)).latents
    torch.testing.assert_close(kept[:, :1], frame, rtol=0, atol=0)
    assert not torch.equal(kept[:, 1:], plain[:, 1:])


def test_add_a_model_family(tmp_path, monkeypatch):
    """`load_backbone` finds it, and all that is left to write is what the recipe lists."""
    from ditflow.models import sketch_backbone
    from ditflow.models.families.skyreels import SkyReels

    index = {"transformer": ["diffusers", "SkyReelsV2Transformer3DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with monkeypatch.context() as undone, pytest.raises(KeyError, match="SkyReels"):
        found = classmethod(lambda family, *_, **__: {}[family.__name__])
        undone.setattr(SkyReels, "sketch", found)
        sketch_backbone(str(tmp_path))
    text = PAGES["CONTRIBUTING.md"].split("## Add a model family")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)
    assert SkyReels.__abstractmethods__ == {
        name for row in rows for name in re.findall(r"`(\w+)`", row)
    }


def test_add_a_metric():
    """`make_metrics` makes it, and it keeps rows."""
    from ditflow.metrics import Sample, make_metrics

    black = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    (metric,) = make_metrics(["colour_distance"]).values()
    metric.update([Sample(black, black), Sample(black, black + 255)])
    assert [row.value for row in metric.rows()] == pytest.approx([0, 3**0.5])


def test_add_a_command(clips, capsys):
    """`ditflow` answers to its name, and its help lists it."""
    from trainers.cli import main

    assert main(["frames", str(clips[0])]) == 0
    assert capsys.readouterr().out == "5 frames of 32 x 48\n"
    assert main(["--help"]) == 0
    assert "\n  frames    how many" in capsys.readouterr().out


def test_add_a_page(clips):
    """`write_page` makes one file of it, with the clips inside."""
    from ditflow.visual import write_page
    from trainers.report.clips import page_of_clips

    write_page("clips.html", page_of_clips(clips))
    page = Path("clips.html").read_text(encoding="utf-8")
    assert page.count("data:video/mp4") == 2 and "clip-1" in page


def test_files_are_on_their_floors():
    """As tests/test_floors.py reads imports, but of the new files alone."""
    from tests.test_floors import PACKAGES, allowed, imports_of
    from tests.test_recipes import FILES

    for file in FILES:
        ast.parse((ROOT / file).read_text(encoding="utf-8"))
        module = file[:-3].replace("/", ".")
        ours = [other for other in imports_of(module) if other.split(".")[0] in PACKAGES]
        assert [other for other in ours if not allowed(module, other)] == []
