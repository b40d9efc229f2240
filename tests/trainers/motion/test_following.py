"""`fit` by optimisation from the motion of clips, and `predict` from what comes of it: the same as
in the library, wherever a run was stopped, in a bank of both kinds.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from datamodules.encoding_cache import EncodingCache
from datamodules.manifest import read_manifest
from datamodules.synthetic import World
from ditflow import read_video, transfer_motion
from ditflow.bank import MotionBank
from ditflow.core.sizes import VideoSize
from ditflow.fields import described
from ditflow.fields.sources import VERSION, field_and_doubts, field_of
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.guidance import MotionGuidance
from ditflow.video import write_video
from tests.clips import SMALL, arguments, hashes, whole_bank, write_moving
from tests.closeness import assert_close_in_norm
from tests.registry import SIZE, tiny_backbone, tiny_folder

FOLLOWING = shlex.split(
    "--model.begin field --model.passes conditional --model.noise_share 0.5 --model.inner_steps 1"
)
TOLD = {"begin": "field", "passes": "conditional", "noise_share": 0.5, "inner_steps": 1}
FIELD_OF = "datamodules.encoding_cache.field_and_doubts"


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """The manifest of two clips that move."""
    folder = tmp_path_factory.mktemp("clips")
    write_moving(folder, ("one", "two"))
    (folder / "clips.csv").write_text("video,prompt\none.mp4,a cat\ntwo.mp4,a dog\n")
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def followed(clips, tmp_path_factory) -> Path:
    """A bank of these clips, made without interruption from their fields."""
    return whole_bank(tmp_path_factory.mktemp("followed") / "bank", clips, *FOLLOWING)


def test_entries_are_those_of_the_library_and_say_how_they_began(followed, clips):
    clip = read_video(clips.parent / "one.mp4", frames=SIZE.frames, size=(SIZE.height, SIZE.width))
    amf, rates = AttentionMotionFlow(2), (0.002, 0.001)
    guidance = MotionGuidance(amf, "rotary_tables", 0.5, rates, **TOLD)
    options = {"steps": 4, "motion_guidance": guidance}
    wanted = transfer_motion(tiny_backbone("rotary"), clip, "a cat", **options).entry
    entry = MotionBank(followed)["one"]
    assert_close_in_norm(entry.parameters, wanted.parameters, largest=0.002)
    assert TOLD.items() <= vars(entry.metadata).items()


@pytest.mark.parametrize("batch_size", [1, 2])
def test_stopped_after_each_step_a_run_goes_on_to_the_same_bits_and_follows_each_clip_once(
    run, followed, clips, tmp_path, monkeypatch, batch_size
):
    seen, read = [], []
    monkeypatch.setattr(
        FIELD_OF, lambda frames, clip: seen.append(clip) or field_and_doubts(frames, clip=clip)
    )
    monkeypatch.setattr(
        "datamodules.frames.read_video",
        lambda path, **options: read.append(path) or read_video(path, **options),
    )
    fit = arguments("fit", tmp_path / "bank", manifest=clips, batch_size=batch_size)
    runs = 1
    while run(*fit, *FOLLOWING, "--trainer.max_steps", "1")[0] == 1:
        runs += 1
    assert (runs, sorted(seen), len(read)) == (4 // batch_size, ["one", "two"], 2)
    assert hashes(tmp_path / "bank") == hashes(followed)


OWN = shlex.split("--model.begin own --model.noise_share 0")


def test_an_entry_keeps_the_motion_of_its_clip_whatever_optimisation_begins_with(
    clips, tmp_path, followed
):
    ours = MotionBank(whole_bank(tmp_path / "bank", clips, *OWN))
    theirs = MotionBank(followed)
    for name in ("one", "two"):
        entry, other = ours[name], theirs[name]
        assert entry.metadata.begin == "own" and entry.metadata.words == other.metadata.words
        assert entry.field is not None and torch.equal(entry.displacement, other.displacement)
        size = (SIZE.height, SIZE.width)
        read = read_video(clips.parent / f"{name}.mp4", frames=SIZE.frames, size=size)
        assert entry.metadata.words == described(field_of(read.frames))
        assert name in [match.name for match in ours.search(words=entry.metadata.words).matches]


def test_a_clip_that_cannot_be_followed_keeps_none_and_nothing_is_said(run, tmp_path):
    frames = World(VideoSize(SIZE.frames, SIZE.height, SIZE.width)).clip(0).frames
    frames[SIZE.frames // 2 :] = 255 - frames[SIZE.frames // 2 :].flip(3)
    write_video(tmp_path / "cut.mp4", frames, 8)
    (tmp_path / "clips.csv").write_text("video,prompt\ncut.mp4,a cat\n")
    words = arguments("fit", tmp_path / "bank", manifest=tmp_path / "clips.csv")
    code, _, said = run(*words, *OWN)
    entry = MotionBank(tmp_path / "bank")["cut"]
    assert code == 0 and entry.field is None and entry.metadata.words == "" and "cut at" not in said


def test_a_kept_field_warns_as_a_fresh_one_does(tmp_path):
    still = World(SIZE).clip(0).frames[:1]
    write_video(tmp_path / "still.mp4", still.expand(SIZE.frames, -1, -1, -1), 8)
    (tmp_path / "clips.csv").write_text("video,prompt\nstill.mp4,a cat\n")
    (task,) = read_manifest(tmp_path / "clips.csv")
    cache = EncodingCache(tmp_path / "cache", tiny_backbone("rotary"), SIZE)
    for kept in (False, True):
        assert cache.has(task, "field") is kept
        with pytest.warns(UserWarning, match="clip 'still' is still: its field holds no motion"):
            cache.field(task)


def test_a_field_that_was_measured_another_way_is_not_read(tmp_path, clips, monkeypatch):
    task = read_manifest(clips)[0]
    cache = EncodingCache(tmp_path / "cache", tiny_backbone("rotary"), SIZE)
    cache.field(task)
    monkeypatch.setattr("datamodules.encoding_cache.VERSION", VERSION + 1)
    assert not cache.has(task, "field")


def test_a_clip_with_a_cut_fails_in_a_sentence_and_the_others_go_on(run, followed, clips, tmp_path):
    cut = [read_video(clips.parent / f"{name}.mp4").frames for name in ("one", "two")]
    write_video(tmp_path / "cut.mp4", torch.cat([cut[0][:4], 255 - cut[1][4:]]), 8)
    one = clips.parent / "one.mp4"
    (tmp_path / "clips.csv").write_text(f"video,prompt\ncut.mp4,a cat\n{one},a cat\n")
    fit = arguments("fit", tmp_path / "bank", manifest=tmp_path / "clips.csv", batch_size=2)
    code, said, _ = run(*fit, *FOLLOWING, "--dry_run")
    assert code == 1 and "cannot be done: cut: clip 'cut' has a cut at frame 4" in said
    code, _, errors = run(*fit, *FOLLOWING)
    assert code == 1 and "'cut' failed: clip 'cut' has a cut at frame 4" in errors, errors
    assert hashes(tmp_path / "bank") == {"one": hashes(followed)["one"]}


def test_a_dry_run_says_how_it_begins(run, clips, tmp_path):
    fit = arguments("fit", tmp_path / "bank", manifest=clips)
    said = " ".join(run(*fit, *FOLLOWING, "--dry_run")[1].split())
    assert "in the conditional pass, from the clip's field, 0.5 of the noise moves along" in said


SINGLE = shlex.split("--model.guidance_scale 1 --model.guidance constant --model.window noise:0.9")


@pytest.mark.parametrize(
    ("options", "passes"),
    [((), 30), (("--model.motion_scale", "2"), None), (SINGLE, 15)],
    ids=["two", "three", "one"],
)
def test_one_bank_holds_both_kinds_and_predict_takes_as_many_passes_as_planned(
    run, clips, tmp_path, monkeypatch, options, passes
):
    """Options of fields do not disturb the optimised entries beside them."""
    bank, predicted, predict = tmp_path / "bank", [], type(tiny_backbone("rotary")).predict
    (tmp_path / "one.csv").write_text(f"video,prompt,name\n{clips.parent}/one.mp4,a cat,fitted\n")
    assert run(*arguments("fit", bank, manifest=tmp_path / "one.csv"), *FOLLOWING)[0] == 0
    instant = ["--method", "instant", "--model.backbone", tiny_folder("rotary"), *SMALL]
    assert run("fit", *instant, "--bank", bank, "--data.manifest", clips)[0] == 0
    (tmp_path / "prompts.txt").write_text("a red cat\n")
    words = arguments("predict", bank, prompts=tmp_path / "prompts.txt")
    words += [*SMALL, "--out", str(tmp_path / "out"), "--model.steps", "5"]
    words += ["--model.window", "0.4", "--model.noise_share", "0.3", *options]
    work = re.search(r"work +counted +(\d+) forward", run(*words, "--dry_run")[1])
    monkeypatch.setattr(
        type(tiny_backbone("rotary")),
        "predict",
        lambda self, *rest: predicted.append(1) or predict(self, *rest),
    )
    code, said, errors = run(*words)
    assert (code, "3 of 3 done" in said) == (0, True), errors
    assert work and int(work[1]) == len(predicted)
    assert len(predicted) == passes or (passes is None and 30 < len(predicted) < 45)
