"""Savings on the command line: what they are said by, kept in, and cost; and the preset `fast`."""

from __future__ import annotations

import re

import pytest
import torch
import yaml

from ditflow.bank import MotionBank
from ditflow.models import sketch_backbone
from tests.clips import arguments, write_clips
from trainers.motion.optimization import MotionOptimization


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The manifest of one clip."""
    return write_clips(tmp_path_factory.mktemp("clips"), ["left"])


SAID = ("--model.savings", "reuse 2 .5, stop .01, pairs neighbours, window 2, scores bfloat16")


@pytest.mark.parametrize("fast", ["fast", "fast.yaml", "configs/fast.yaml"])
def test_fast_is_found_and_runs(clips, tmp_path, monkeypatch, run, fast):
    monkeypatch.chdir(tmp_path)
    words = arguments("fit", tmp_path / "bank", manifest=clips)
    words = [*words, "--config", fast]
    if fast == "fast":
        assert run(*words)[0] == 0
        (entry,) = MotionBank("bank").values()
        assert entry.metadata.savings == "reuse 3"
        losses = torch.tensor(entry.metadata.losses).flatten()  # of two steps with two updates
        assert losses[0] == losses[1] == losses[2] != losses[3]
        assert "savings" in run("bank", "show", "bank", "left")[1]
        return
    code, printed, _ = run(*words, "--print_config")
    assert code == 0 and yaml.safe_load(printed)["model"]["savings"] == "reuse 3"


def test_fast_costs_at_most_1_3_times_a_plain_video():
    for name in ("tiny-rope", "tiny-wan"):
        backbone = sketch_backbone(name)
        module = MotionOptimization(name, savings="reuse 3")
        recipe = module.choices.on(backbone)
        forwards = recipe.guidance.forward_equivalents(recipe.schedule, backbone.spec)
        assert forwards <= 1.3 * backbone.spec.passes_of(recipe.schedule)


def test_entries_of_other_savings_are_others(clips, tmp_path, run):
    """A bank does not take one for the other, and a dry run says what is spared."""
    words = arguments("fit", tmp_path / "bank", manifest=clips)
    assert run(*words)[0] == 0
    code, _, errors = run(*words, *SAID)
    assert code == 2 and "savings" in errors
    code, said, _ = run(*words, *SAID, "--bank", tmp_path / "other", "--dry_run")
    said = " ".join(said.split())
    assert code == 0 and "approximated: reuse 2 0.5, stop 0.01, pairs neighbours" in said
    assert re.search("work counted at most [0-9.]+ forward passes", said)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model.savings", "reuse 1"), "a saving is 'reuse 1', but reuse takes UPDATES"),
        (("--model.savings", "hurry"), "unknown saving 'hurry'; there are reuse UPDATES"),
        ((*SAID, "--model.signal", "smm"), "savings of the signal amf, and the signal is smm"),
    ],
)
def test_what_cannot_be_spared_is_said_in_one_sentence(clips, tmp_path, run, words, sentence):
    code, _, errors = run(*arguments("fit", tmp_path / "bank", manifest=clips), *words)
    assert code == 2 and sentence in errors and "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1
