"""`ditflow ablate`: which variants it makes, what it draws, and that the settings reach the
entries.
"""

from __future__ import annotations

import json

import pytest
from PIL import Image

from ditflow.bank import MotionBank
from tests.clips import ditflow
from tests.davis import write_davis
from tests.registry import tiny_folder
from trainers.benchmark.ablation import draw, variants_of

VARY = {"block": [1, 2], "window": [0.5], "inner_steps": [1], "temperature": [4]}


def test_a_variant_changes_one_setting():
    variants = list(variants_of("ditflow-latents", VARY))
    assert [(variant.method.name, dict(variant.method.model)) for variant in variants] == [
        ("ditflow-latents-block-1", {"block": 1}),
        ("ditflow-latents-block-2", {"block": 2}),
        ("ditflow-latents-window-0.5", {"window": 0.5}),
        ("ditflow-latents-inner_steps-1", {"inner_steps": 1}),
        ("ditflow-latents-temperature-4", {"signal_arguments": {"temperature": 4}}),
    ]


def test_temperature_leaves_the_signals_other_arguments_as_the_setup_has_them():
    (variant,) = variants_of("motionclone-x", {"temperature": [2]})
    assert variant.method.model == {"signal_arguments": {"mode": "frames", "temperature": 2}}


MISTAKES = [
    ({"moon": [1]}, "vary names moon: what can be varied is block"),
    ({}, "needs values"),
    ({"block": []}, "needs"),
    ({"block": [1.5]}, "vary gives block the value 1.5: it is a whole number"),
]


@pytest.mark.parametrize(("vary", "said"), MISTAKES)
def test_what_cannot_be_varied(vary, said):
    with pytest.raises(ValueError, match=said):
        list(variants_of("ditflow-latents", vary))


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(tmp_path / "a.png", list(variants_of("ditflow-latents", VARY)), [], ["motion_cosine"])


def test_settings_reach_the_entries_and_curves_are_drawn(tmp_path, monkeypatch):
    root, prompts = write_davis(tmp_path, ["dog"])
    config = {
        "data": {
            "class_path": "DavisBenchmark",
            "init_args": {"davis_root": str(root), "prompts": str(prompts), "size": [32, 48]},
        },
        "setup": "ditflow-latents",
        "vary": {"block": [1], "temperature": [4]},
        "model": {
            "backbone": str(tiny_folder("rotary")),
            "steps": 2,
            "window": 0.5,
            "inner_steps": 1,
        },
        "trainer": {"enable_progress_bar": False},
        "metrics": {"names": ["motion_cosine", "motion_fidelity", "diversity"], "flows": False},
    }
    (tmp_path / "ablation.yaml").write_text(json.dumps(config))
    monkeypatch.setattr(
        "trainers.benchmark.run.run_ditflow", lambda words: ditflow(monkeypatch, *words)
    )
    assert (
        ditflow(
            monkeypatch,
            "ablate",
            "--config",
            str(tmp_path / "ablation.yaml"),
            "--out",
            str(tmp_path / "run"),
        )
        == 0
    )
    banks = {
        name: MotionBank(tmp_path / "run/banks" / f"ditflow-latents-{name}").metadata(
            "dog--subject"
        )
        for name in ("block-1", "temperature-4")
    }
    assert (
        banks["block-1"].signal["block"] == 1 and banks["temperature-4"].signal["temperature"] == 4
    )
    with Image.open(tmp_path / "run/ablation.png") as picture:
        assert picture.width > picture.height // 2 and len(picture.convert("L").getcolors()) > 2
    assert not (tmp_path / "run/references/dog.safetensors").exists()
    result = json.loads(
        (tmp_path / "run/results/ditflow-latents-block-1/dog--subject.json").read_text()
    )
    assert result["error"] is None and set(result["metrics"]) == {
        "motion_cosine",
        "motion_fidelity",
    }  # one video has no diversity
