"""`fit --method instant`: a bank of fields without a model, by the queue, the faults and the plan
of every `fit`. Besides, which method and options a command line asks for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from ditflow.bank import FieldEntry, MotionBank
from ditflow.compatibility import Injection
from ditflow.extraction import extract_motion_field
from ditflow.fields.sources import field_of
from ditflow.fields.words import described
from ditflow.models import load_backbone
from ditflow.transfer import inject_motion
from ditflow.video import read_video, write_video
from ditflow.video_provenance import read_provenance
from tests.clips import (
    QUICK,
    SMALL,
    arguments,
    assert_shows,
    hashes,
    levels_off,
    write_moving,
)
from tests.registry import SIZE, tiny_backbone, tiny_folder
from trainers.commands.methods import METHODS, method_of, with_own_options
from trainers.motion.instant import InstantMotion
from trainers.motion.optimization import MotionOptimization

ROOT = Path(__file__).parents[3]
NAMES = ("one", "three", "two")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The folder of three clips that move, with a manifest."""
    folder = tmp_path_factory.mktemp("clips")
    write_moving(folder, NAMES)
    rows = [f"{name}.mp4,a cat,red;{name}\n" for name in NAMES]
    (folder / "clips.csv").write_text("video,prompt,tags\n" + "".join(rows))
    return folder


def instant(bank, clips, *words: object) -> list[str]:
    """The words of a run over the clips' manifest."""
    names = ["--model.backbone", tiny_folder("rotary"), "--bank", bank, *SMALL]
    manifest = ["--data.manifest", clips / "clips.csv"]
    return [str(word) for word in ("fit", "--method", "instant", *names, *manifest, *words)]


def test_entries_are_the_fields_of_the_clips_and_no_model_is_loaded(
    run, clips, tmp_path, monkeypatch
):
    for name in ("load", "encode", "embed"):
        monkeypatch.setattr(f"ditflow.models.families.cogvideox.CogVideoX.{name}", None)
    code, said, errors = run(*instant(tmp_path / "bank", clips))
    assert (code, "3 of 3 done" in said) == (0, True), errors
    bank = MotionBank(tmp_path / "bank")
    assert sorted(bank) == sorted(NAMES)
    for name in NAMES:
        clip = read_video(clips / f"{name}.mp4", frames=SIZE.frames, size=(SIZE.height, SIZE.width))
        entry, field = bank[name], field_of(clip.frames, clip=name)
        assert isinstance(entry, FieldEntry)
        assert torch.equal(entry.displacement, field.displacement.half())
        assert entry.metadata.times == field.times
        assert entry.metadata.words == described(field)
        assert entry.metadata.tags == ("red", name)
        assert entry.metadata.clip_sha256 == clip.sha256
        assert tuple(entry.metadata.size) == tuple(clip.frames[:, 0].shape)


def test_run_again_it_keeps_what_is_there_and_goes_on(run, clips, tmp_path):
    run(*instant(tmp_path / "bank", clips))
    before = hashes(tmp_path / "bank")
    files = sorted((tmp_path / "bank" / "entries").glob("*.safetensors"))
    files[0].unlink()
    times = [file.stat().st_mtime_ns for file in files[1:]]
    code, said, _ = run(*instant(tmp_path / "bank", clips))
    assert (code, "3 of 3 done" in said) == (0, True)
    assert [file.stat().st_mtime_ns for file in files[1:]] == times
    assert hashes(tmp_path / "bank") == before


def test_two_processes_make_the_same_bank(run, clips, tmp_path):
    run(*instant(tmp_path / "one", clips))
    devices = ("--trainer.devices", "2", "--trainer.accelerator", "cpu")
    # not forked from here, where OpenCV has threads
    command = [sys.executable, "-m", "trainers.cli", *instant(tmp_path / "two", clips, *devices)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_a_clip_that_cannot_be_read_is_named_and_the_others_go_on(run, clips, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    rows = [f"{clips / 'one.mp4'},\n", f"{tmp_path / 'bad.mp4'},\n"]
    (tmp_path / "clips.csv").write_text("video,prompt\n" + "".join(rows))
    words = instant(tmp_path / "bank", tmp_path, "--data.batch_size", "2")
    plan = run(*words, "--dry_run")
    assert plan[0] == 1 and "cannot be done: bad: " in plan[1]
    assert not (tmp_path / "bank").exists()
    code, said, errors = run(*words)
    assert (code, "1 of 2 done" in said, "1 failed: bad" in errors) == (1, True, True)
    assert list(MotionBank(tmp_path / "bank")) == ["one"]
    assert list(MotionBank(tmp_path / "bank").failures()) == ["bad"]


def test_the_plan_counts_the_clips_and_writes_nothing(run, clips, tmp_path):
    code, said, _ = run(*instant(tmp_path / "bank", clips, "--dry_run"))
    assert (code, "3 asked for, 0 done" in said) == (0, True)
    assert "instant motion by dis" in said and not (tmp_path / "bank").exists()


def test_auto_takes_the_frames_that_a_short_clip_has(run, clips, tmp_path):
    words = instant(tmp_path / "bank", clips, "--data.fps", "6", "--data.frames", "auto")
    code, _, errors = run(*words)
    sizes = (
        {MotionBank(tmp_path / "bank").metadata(name).size[0] for name in NAMES}
        if not code
        else errors
    )
    assert sizes == {8} or "fewer than" in str(sizes)


@pytest.mark.parametrize("source", ["lucas-kanade", "amf"])
def test_entries_of_another_source_say_so_and_are_what_the_library_measures(
    run, clips, tmp_path, source
):
    code, said, errors = run(*instant(tmp_path / "bank", clips, "--model.source", source))
    assert (code, "3 of 3 done" in said) == (0, True), errors
    clip = read_video(clips / "one.mp4", frames=SIZE.frames, size=(SIZE.height, SIZE.width))
    model = load_backbone(str(tiny_folder("rotary")))
    field, entry = extract_motion_field(clip, source, model), MotionBank(tmp_path / "bank")["one"]
    assert entry.metadata.method == field.source.method
    assert field.source.method == (source if source != "amf" else f"amf of {model.spec.name}")
    assert torch.equal(entry.displacement, field.displacement.half())
    code, said, errors = run(*instant(tmp_path / "bank", clips))
    assert code == 2 and f"made with method '{field.source.method}' instead of 'dis'" in errors


@pytest.mark.parametrize(
    ("source", "sentence"), [("raft", "pip install torchvision"), ("cotracker3", "licence")]
)
@pytest.mark.parametrize("plan", [(), ("--dry_run",)])
def test_what_a_source_lacks_is_said_before_any_work(
    run, clips, tmp_path, monkeypatch, source, sentence, plan
):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    code, _, errors = run(*instant(tmp_path / "bank", clips, "--model.source", source, *plan))
    assert code == 2 and sentence in errors and len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "bank").exists()


def test_a_dry_run_loads_no_weights_and_names_clips_with_a_cut(run, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("ditflow.models.families.cogvideox.CogVideoX.load", None)
    one, two = (read_video(clips / f"{name}.mp4").frames for name in ("one", "two"))
    write_video(tmp_path / "cut.mp4", torch.cat([one[:4], 255 - two[4:]]), 8)
    (tmp_path / "clips.csv").write_text(f"video,prompt\ncut.mp4,\n{clips / 'one.mp4'},\n")
    plan = run(*instant(tmp_path / "bank", tmp_path, "--model.source", "amf", "--dry_run"))
    assert plan[0] == 1 and "cannot be done: cut: clip 'cut' has a cut at frame 4" in plan[1]
    assert "1 to do, 1 refused" in plan[1] and not (tmp_path / "bank").exists()


def test_a_plan_of_videos_refuses_the_window_that_a_run_would(run, clips, tmp_path):
    assert run(*instant(tmp_path / "bank", clips))[0] == 0
    (tmp_path / "prompts.txt").write_text("a red cat\n")
    words = arguments("predict", tmp_path / "bank", prompts=tmp_path / "prompts.txt")
    words += [*SMALL, "--out", str(tmp_path / "out"), "--model.window", "[0, 99]"]
    for dry in (["--dry_run"], []):
        code, said, errors = run(*words, *dry)
        assert code != 0 and "window (0, 99) does not fit" in said + errors


def test_predict_changes_a_motion_in_words(run, clips, tmp_path):
    assert run(*instant(tmp_path / "bank", clips))[0] == 0
    (tmp_path / "prompts.txt").write_text("a dog\n")
    asked = {"prompts": tmp_path / "prompts.txt", "entries": "[one]"}
    words = arguments("predict", tmp_path / "bank", **asked)
    words += [*SMALL, "--model.steps", "4"]
    out = tmp_path / "out"
    change = ["--model.change", "rotated 90, scaled -3"]
    assert run(*words, "--out", str(out), *change)[0] == 0
    (made,) = out.iterdir()
    assert read_provenance(made).change == "rotated 90, scaled -3"
    entry, how = MotionBank(tmp_path / "bank")["one"], Injection(change="rotated 90, scaled -3")
    told = {"steps": 4, "size": SIZE}
    wanted, plain = (
        inject_motion(tiny_backbone("rotary"), entry, "a dog", how=one, **told)
        for one in (how, Injection())
    )
    assert_shows(made, wanted)
    assert levels_off(made, wanted) < 0.5 * levels_off(made, plain)
    code, _, errors = run(*words, "--out", str(tmp_path / "no"), "--model.change", "backwards")
    assert code == 2 and "unknown change 'backwards' of a motion; there are camera" in errors


def test_a_bank_does_not_take_one_method_for_another(run, clips, tmp_path):
    assert run(*instant(tmp_path / "bank", clips))[0] == 0
    fit = arguments("fit", tmp_path / "bank", manifest=clips / "clips.csv")
    code, _, errors = run(*fit)
    assert code == 2 and "made by another --method" in errors


def test_one_yaml_file_serves_all_methods_and_both_commands(tmp_path):
    file = tmp_path / "all.yaml"
    model = {"backbone": "tiny-rope", "source": "dis", "steps": 4, "typo": 1}
    file.write_text(yaml.safe_dump({"method": "instant", "model": model}))
    words = ["fit", "--config", str(file)]
    method = method_of(words)
    assert method.module is InstantMotion
    assert method_of([*words, "--method=optimise"]).module is MotionOptimization
    assert method_of(["fit"]).module is MotionOptimization

    def read(method, *, fits):
        return json.loads(with_own_options(words, method, fits=fits)[-1])

    own = {"backbone": "tiny-rope", "source": "dis", "typo": 1}
    assert read(method, fits=True) == {"method": "instant", "model": own}
    own = {"backbone": "tiny-rope", "steps": 4, "typo": 1}
    assert read(METHODS["optimise"], fits=False) == {"model": own}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--method", "other"], "method"),
        (["--method", "instant", "--model.steps", "4"], "steps"),
        (["--method", "instant", "--model.source", "other"], "source"),
        (["--model.source", "dis"], "source"),
    ],
)
def test_options_of_another_method_are_refused_in_a_sentence(run, clips, tmp_path, words, sentence):
    bank = ["--bank", str(tmp_path / "bank"), "--data.manifest", str(clips / "clips.csv")]
    code, _, errors = run("fit", *bank, *words)
    assert code == 2 and sentence in errors and len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "bank").exists()


def test_predict_takes_both_kinds_from_one_bank(run, clips, tmp_path):
    assert run(*instant(tmp_path / "bank", clips))[0] == 0
    (tmp_path / "clips.csv").write_text(f"video,prompt,name\n{clips / 'one.mp4'},a dog,fitted\n")
    assert run(*arguments("fit", tmp_path / "bank", manifest=tmp_path / "clips.csv"))[0] == 0
    (tmp_path / "prompts.txt").write_text("a red cat\n")
    prompts = arguments("predict", tmp_path / "bank", prompts=tmp_path / "prompts.txt")
    plan = run(*prompts, "--dry_run", *QUICK[:2])
    assert plan[0] == 0 and "4 to make" in plan[1]
    code, said, errors = run(*prompts, *QUICK[:2], "--out", str(tmp_path / "out"))
    assert (code, "4 of 4 done" in said) == (0, True), errors
    videos = {file.stem: read_video(file) for file in (tmp_path / "out").glob("*.mp4")}
    fitted = {name for name in videos if name.startswith("fitted")}
    assert len(videos) == 4 and len(fitted) == 1
    stock = tiny_backbone("rotary").spec.size
    for name, video in videos.items():  # a field takes the backbone's size, or that asked for
        assert len(video.frames) == (SIZE if name in fitted else stock).frames
    words = ["--out", str(tmp_path / "small"), "--data.entries", "[one]", "--model.strength", "0.5"]
    assert run(*prompts, *QUICK[:2], *SMALL, *words)[0] == 0
    (small,) = (tmp_path / "small").glob("*.mp4")
    assert len(read_video(small).frames) == SIZE.frames
