"""The starter bank: what ships is what the recipe makes, and its motions are those of the names."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ditflow import MotionBank
from ditflow.bank.search.phrases import agreement, asked, told
from ditflow.fields import described
from tests.benchmarks.words import is_right
from tests.clips import ditflow
from trainers.pretraining.starter import SIZE, STARTERS, starter_shot, write_starter

BANK = MotionBank("starter")
THERE = [name for name, starter in STARTERS.items() if not starter.shot.camera.back]
CAMERAS = [name for name in THERE if not STARTERS[name].shot.things and name != "orbit"]


def test_what_ships_are_the_entries_of_the_recipe():
    assert sorted(STARTERS) == list(BANK) and 24 <= len(STARTERS) <= 40


@pytest.mark.filterwarnings("ignore:clip 'follow-right' can be followed in part")
def test_the_recipe_makes_what_ships(tmp_path):
    """To rounding: flow of another processor may differ by far less than a pixel, which is .01."""
    names = ["pan-left-slow", "roll-clockwise", "follow-right"]
    write_starter(tmp_path / "bank", names)
    made = MotionBank(tmp_path / "bank")
    assert sorted(names) == list(made)
    for name in names:
        assert made.metadata(name) == BANK.metadata(name)
        for now, ships in zip(
            made[name].tensors().values(), BANK[name].tensors().values(), strict=True
        ):
            assert (now.float() - ships.float()).abs().mean() < 1e-3


@pytest.mark.parametrize("name", STARTERS)
def test_an_entry_is_found_by_what_its_name_says(name):
    entry, wanted = BANK[name], asked(STARTERS[name].words)
    assert entry.metadata.words == described(entry.field)
    assert agreement(wanted, told(entry.metadata.words)) == 1


@pytest.mark.parametrize("name", CAMERAS)
def test_words_of_a_camera_are_right_by_the_world(name):
    assert is_right(starter_shot(name), told(BANK.metadata(name).words))


@pytest.mark.parametrize("name", STARTERS)
def test_the_motion_is_the_exact_one(name):
    """In the middle of the clip, where it is followed. Cells at the edge of a thing hold a part of
    two motions, and a small thing has many edges.
    """
    field, clip = BANK[name].field, starter_shot(name)
    time = len(field.times) // 2
    exact = functional.avg_pool2d(clip.flow(int(field.times[time]), 0)[None], 4)[0] / SIZE.height
    trusted = field.confidence[time] >= 0.5
    pair = exact[:, trusted].flatten(), field.displacement[time][:, trusted].flatten()
    cosine = functional.cosine_similarity(*pair, dim=0)
    assert cosine > (0.8 if STARTERS[name].shot.things else 0.95)
    assert torch.linalg.norm(pair[1]) / torch.linalg.norm(pair[0]) == pytest.approx(1, abs=0.25)


def test_its_origin_is_told():
    for name in BANK:
        told = BANK.metadata(name)
        assert told.tags == ("synthetic", "licence: Apache-2.0") and told.clip == name
        assert "synthetic world" in told.caption and told.prompt == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bank", "rm", "starter", "orbit"], "ditflow bank export starter mine/ NAME"),
        (["bank", "export", "starter", "starter", "orbit"], "starter is a bank already"),
        (["predict", "--bank", "starter", "--data.prompts", "prompts.txt"], "with --out"),
        (
            ["fit", "--method", "instant", "--bank", "starter", "--data.manifest", "clips.csv"],
            "ditflow bank export starter mine/ NAME",
        ),
    ],
)
def test_commands_refuse_to_change_it(tmp_path, monkeypatch, capfd, words, said):
    from tests.pages import write_files

    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    assert ditflow(monkeypatch, *words) == 2
    errors = capfd.readouterr().err
    assert said in errors and "Traceback" not in errors


def test_predict_takes_it_and_again(tmp_path, monkeypatch, capfd):
    from tests.registry import tiny_folder

    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a dog\n")
    words = ["predict", "--bank", "starter", "--data.prompts", "prompts.txt", "--out", "videos"]
    words += ["--model.backbone", str(tiny_folder("rotary")), "--model.steps", "2"]
    assert ditflow(monkeypatch, *words, "--data.entries", "[orbit]") == 0
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert ditflow(monkeypatch, "predict", "--again", str(video)) == 0
    assert (tmp_path / "videos" / "again" / video.name).is_file()
    assert "unlike" not in capfd.readouterr().out
