"""The demo's plan, its folder and its numbers; the whole of it runs in tests/test_packaging.py."""

from __future__ import annotations

import csv

import pytest

from datamodules.manifest import read_manifest, read_prompts
from datamodules.synthetic import HELD_OUT, SPRITE_MOTIONS, World
from trainers.commands.demo import main
from trainers.commands.demo_journey import Journey, claim
from trainers.commands.demo_report import summary
from trainers.commands.demo_tasks import MOTIONS, tasks_of, write_inputs


def test_each_motion_has_its_turn_on_held_out_clips():
    tasks = tasks_of(9, 2, seed=0)
    assert [task.clip.motion for task in tasks] == [*MOTIONS, *MOTIONS[:2]]
    assert len({task.name for task in tasks}) == 9
    assert all(int(task.name.rsplit("-", 1)[1]) < HELD_OUT for task in tasks)


@pytest.mark.parametrize("seed", range(5))
def test_prompts_are_of_the_clips_kind_and_tell_another_palette(seed):
    for task in tasks_of(7, 6, seed):
        prompts = [task.prompt, *task.new_prompts]
        assert len(set(prompts)) == 7 and set(prompts) <= set(World().prompts())
        assert not [prompt for prompt in prompts if task.clip.palette in prompt.split()]
        assert all(
            (" over " in prompt) == (task.clip.motion in SPRITE_MOTIONS) for prompt in prompts
        )


def test_fit_and_predict_can_read_what_is_written(tmp_path):
    tasks = tasks_of(2, 3, seed=4)
    write_inputs(tmp_path, tasks)
    manifest = read_manifest(tmp_path / "clips.csv")
    assert [(row.name, row.prompt, row.seed) for row in manifest] == [
        (task.name, task.prompt, task.seed) for task in tasks
    ]
    assert [row.video for row in manifest] == [str(tmp_path / task.reference) for task in tasks]
    pairs = read_prompts(tmp_path / "prompts.csv")
    assert [(pair.entry, pair.prompt, pair.seed) for pair in pairs] == [
        (task.name, prompt, task.new_seed) for task in tasks for prompt in task.injected
    ]
    assert all(
        task.seed != task.new_seed and (tmp_path / task.reference).stat().st_size for task in tasks
    )
    with open(tmp_path / "prompts.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 7


def test_a_folder_belongs_to_its_settings(tmp_path):
    claim(tmp_path / "demo", {"clips": 2})
    claim(tmp_path / "demo", {"clips": 2})
    with pytest.raises(ValueError, match="other settings.*--out"):
        claim(tmp_path / "demo", {"clips": 3})


def test_what_is_there_is_not_made_again_and_keeps_its_seconds(tmp_path):
    journey, made = Journey(tmp_path, "tiny-rope", []), []

    def make():
        made.append(True)
        (tmp_path / "b").touch()

    (tmp_path / "a").touch()
    journey._timed("plain", ["a", "b"], make)
    seconds = journey._seconds()
    journey._timed("plain", ["a", "b"], make)
    assert made == [True] and journey._seconds() == seconds and seconds["plain"] >= 0


def test_summary_is_the_mean_over_videos_of_a_kind():
    def video(cosine, accuracy):
        return {"motion_cosine": cosine, "prompt_accuracy": accuracy}

    clips = [
        {
            "plain": video(0.0, 1.0),
            "optimised": video(0.8, 1.0),
            "injected": [video(0.5, 1.0), video(0.7, 0.0)],
        },
        {
            "plain": video(0.2, 0.0),
            "optimised": video(0.6, 1.0),
            "injected": [video(0.1, 1.0), video(0.3, 1.0)],
        },
    ]
    results = summary(clips, {"plain": 1.0, "optimised": 7.0})
    assert results["plain"] == {
        "motion_cosine": pytest.approx(0.1),
        "prompt_accuracy": 0.5,
        "seconds": 1.0,
        "videos": 2,
    }
    assert results["injected"] == {
        "motion_cosine": pytest.approx(0.4),
        "prompt_accuracy": 0.75,
        "seconds": None,
        "videos": 4,
    }
    assert results["clips"] == clips


@pytest.mark.parametrize(
    "arguments", [["--clips", "0"], ["--clips", "x"], ["--prompts", "7"], ["--backbone", "other"]]
)
def test_options_that_cannot_be_are_refused(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2 and list(tmp_path.iterdir()) == []
