"""fit and predict in this process, on tiny random backbones: the same results as the library,
whatever the batches and wherever a run was stopped.
"""

from __future__ import annotations

import csv
import json
import shutil
import signal

import pytest
import torch

from datamodules.queue import inflight
from ditflow.bank import BankStorageError, MotionBank
from ditflow.files import StorageError
from ditflow.sampling.guidance import MotionGuidance
from tests.clips import NAMES, arguments, assert_shows, ditflow, hashes
from tests.closeness import assert_close_in_norm
from tests.registry import SIZE, tiny_backbone, tiny_folder


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> int:
        with monkeypatch.context() as undone:
            return ditflow(undone, *map(str, words))

    return run


def test_bank_holds_every_clip_and_nothing_in_flight(whole):
    bank = MotionBank(whole)
    assert sorted(bank) == sorted(NAMES)
    assert (bank.inflight(), bank.failures(), bank.verify()) == ([], {}, [])
    assert (whole / "index.jsonl").read_text().count('"name"') == len(NAMES)
    assert (whole / "search.safetensors").exists()
    metadata = bank.metadata("left")
    assert (metadata.clip, metadata.prompt, metadata.seed, metadata.window, metadata.steps) == (
        "left",
        "a left cat",
        0,
        (0, 2),
        4,
    )


def test_entry_and_video_are_those_of_the_library(run, clips, tmp_path):
    from ditflow import read_video, transfer_motion
    from ditflow.motion import AttentionMotionFlow
    from ditflow.sampling.guidance import MotionGuidance

    assert (
        run(
            *arguments("fit", tmp_path / "bank", manifest=clips),
            "--model.finish",
            "true",
            "--model.keep_reference",
            "true",
        )
        == 0
    )
    backbone, clip = (
        tiny_backbone("rotary"),
        read_video(clips.parent / "left.mp4", frames=SIZE.frames, size=(SIZE.height, SIZE.width)),
    )
    guidance = MotionGuidance(
        AttentionMotionFlow(2), "rotary_tables", 0.5, (0.002, 0.001), inner_steps=2
    )
    transfer = transfer_motion(
        backbone, clip, "a left cat", steps=4, motion_guidance=guidance, keep_reference=True
    )
    entry = MotionBank(tmp_path / "bank")["left"]
    assert entry.metadata.timesteps == transfer.entry.metadata.timesteps
    assert_close_in_norm(entry.parameters, transfer.entry.parameters, largest=0.002)
    assert_shows(tmp_path / "bank" / "videos" / "left.mp4", transfer.frames)


@pytest.mark.parametrize("batch_size", [2, 3])
def test_results_do_not_depend_on_batches(run, clips, whole, tmp_path, batch_size):
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips, batch_size=batch_size)) == 0
    assert hashes(tmp_path / "bank") == hashes(whole)


class Killed(BaseException):
    """What no handler catches, as a kill -9."""


@pytest.mark.parametrize("batch_size", [1, 2])
def test_killed_at_any_write_a_run_goes_on_to_the_same_bank(
    run, clips, whole, tmp_path, monkeypatch, batch_size
):
    """Stopped before the first, second, third ... write to the bank, each time a little further,
    until one run comes through.
    """
    writes = {
        name: getattr(MotionBank, name)
        for name in ("put", "save_inflight", "drop_inflight", "reindex")
    }
    count = stop_at = runs = 0

    def counted(name):
        def write(*arguments, **options):
            nonlocal count
            count += 1
            if count > stop_at:
                raise Killed(name)
            return writes[name](*arguments, **options)

        return write

    for name in writes:
        monkeypatch.setattr(MotionBank, name, counted(name))
    while True:
        count, stop_at, runs = 0, 1 + runs % 4, runs + 1
        try:
            assert (
                run(*arguments("fit", tmp_path / "bank", manifest=clips, batch_size=batch_size))
                == 0
            )
            break
        except Killed:
            assert runs < 40, "each run must come further"
    assert runs > 4
    assert hashes(tmp_path / "bank") == hashes(whole)
    assert (MotionBank(tmp_path / "bank").inflight(), MotionBank(tmp_path / "bank").verify()) == (
        [],
        [],
    )


def test_a_bank_of_a_former_fingerprint_is_continued(run, clips, tmp_path, monkeypatch):
    """Its entries stay, and a batch that was begun goes on with the record that it has."""
    spec = tiny_backbone("wan").spec
    assert spec.fingerprint != spec.saved_fingerprint and spec.knows(spec.saved_fingerprint)
    fit = arguments("fit", tmp_path / "bank", "wan", manifest=clips)
    with monkeypatch.context() as former:  # as fingerprints were, defaults included
        former.setattr("ditflow.models.parts.replace", lambda spec, **_: spec)
        assert run(*fit, "--trainer.max_steps", "3") == 1
    bank = MotionBank(tmp_path / "bank")
    (first,), (state, *parts) = bank, sorted(bank.inflight(), key=len)
    assert bank.metadata(first).backbone_fingerprint == spec.saved_fingerprint and parts
    made, loaded = hashes(tmp_path / "bank"), []
    load = inflight.load
    monkeypatch.setattr(
        inflight, "load", lambda bank, key, *device: loaded.append(key) or load(bank, key, *device)
    )
    assert run(*fit) == 0
    assert (sorted(bank), loaded, bank.inflight()) == (sorted(NAMES), [state], [])
    assert hashes(tmp_path / "bank")[first] == made[first]
    assert run(*fit) == 0


def test_stopped_by_the_trainers_limits_a_run_says_what_is_left(run, clips, whole, tmp_path, capfd):
    steps = 0
    while (
        code := run(
            *arguments("fit", tmp_path / "bank", manifest=clips), "--trainer.max_steps", "1"
        )
    ) == 1:
        steps += 1
        assert "left: run the same command again" in capfd.readouterr().err
    assert (code, steps) == (0, 5), "three clips with two guided steps each, one step a run"
    assert hashes(tmp_path / "bank") == hashes(whole)


@pytest.mark.parametrize("part", ["", ".guided0000"])
def test_a_record_that_is_damaged_is_no_clips_fault(run, clips, whole, tmp_path, part):
    """Its size is right, so that only its tensors say it: the batch is begun again."""
    words = arguments("fit", tmp_path / "bank", manifest=clips)
    assert run(*words, "--trainer.max_steps", "1") == 1
    (file,) = (
        file
        for file in (tmp_path / "bank" / "inflight").iterdir()
        if file.name.endswith(f"{part}.safetensors") and (part or "guided" not in file.name)
    )
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run(*words) == 0
    assert (
        hashes(tmp_path / "bank") == hashes(whole)
        and MotionBank(tmp_path / "bank").failures() == {}
    )


def test_finished_entries_are_skipped(run, clips, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.motion.work.denoising_step", None)
    before = {file: file.stat().st_mtime_ns for file in (whole / "entries").iterdir()}
    assert run(*arguments("fit", whole, manifest=clips)) == 0
    assert {file: file.stat().st_mtime_ns for file in (whole / "entries").iterdir()} == before


def test_encoders_are_gone_while_optimising_and_clips_are_encoded_once(
    run, clips, tmp_path, monkeypatch
):
    from ditflow.models.encoders import Encoders
    from trainers.motion import work

    encoded, held = [], []
    encode, step = Encoders.encode, work.denoising_step
    monkeypatch.setattr(
        Encoders, "encode", lambda self, frames: encoded.append(len(frames)) or encode(self, frames)
    )
    monkeypatch.setattr(
        work,
        "denoising_step",
        lambda backbone, *rest, **clips: (
            held.append((backbone.encoders._vae, backbone.encoders._text))
            or step(backbone, *rest, **clips)
        ),
    )
    for _ in range(2):
        assert run(*arguments("fit", tmp_path / "bank", manifest=clips)) == 0
        shutil.rmtree(tmp_path / "bank" / "entries")
    assert encoded == [1, 1, 1], "the second run takes them from the cache"
    assert set(held) == {(None, None)}


@pytest.mark.parametrize(
    ("options", "mismatch"),
    [
        (
            ["--model.learning_rate", "[0.004,0.001]"],
            "learning_rate (0.002, 0.001) instead of (0.004, 0.001)",
        ),
        (["--model.inner_steps", "3"], "inner_steps 2 instead of 3"),
        (["--model.injection_blocks", "[1]"], "injection_blocks (0,) instead of (1,)"),
        (["--model.dtype", "bfloat16"], "dtype 'float32' instead of 'bfloat16'"),
        (["--model.keep_reference", "true"], "no reference latents instead of the clip's"),
        (["--data.manifest", "other.csv"], "start 0 instead of 1, stride 1 instead of 2"),
        (["--model.backbone", "twin"], "backbone "),
    ],
)
def test_an_entry_made_with_other_settings_is_not_taken_for_the_one_asked_for(
    run, clips, whole, tmp_path, capfd, options, mismatch
):
    (tmp_path / "other.csv").write_text(
        f"video,prompt,start,stride\n{clips.parent}/left.mp4,a left cat,1,2\n"
    )
    (tmp_path / "twin").symlink_to(tiny_folder("rotary"))
    assert run(*arguments("fit", whole, manifest=clips), *options) == 2
    assert f"made with {mismatch}" in capfd.readouterr().err and MotionBank(whole).failures() == {}


def test_another_prompt_under_the_same_name_is_refused_and_nothing_lost(
    run, clips, whole, tmp_path, capfd
):
    other = tmp_path / "other.csv"
    other.write_text(
        f"video,prompt\n{clips.parent}/left.mp4,another prompt\n"
        f"{clips.parent}/right.mp4,a right cat\n"
    )
    before = hashes(whole)
    assert run(*arguments("fit", whole, manifest=other)) == 1
    assert "made with prompt 'a left cat' instead of 'another prompt'" in capfd.readouterr().err
    assert hashes(whole) == before and MotionBank(whole).failures() == {}


def test_a_bad_clip_does_not_stop_the_others(run, clips, whole, tmp_path, capfd):
    shutil.copytree(clips.parent, tmp_path / "clips")
    video = tmp_path / "clips" / "right.mp4"
    video.write_bytes(video.read_bytes()[:500])
    assert (
        run(
            *arguments(
                "fit", tmp_path / "bank", manifest=tmp_path / "clips" / "clips.csv", batch_size=3
            )
        )
        == 1
    )
    assert "right.mp4" in capfd.readouterr().err
    bank = MotionBank(tmp_path / "bank")
    assert (
        list(bank.failures()) == ["right"]
        and "right.mp4" in json.loads((tmp_path / "bank/failed/right.json").read_text())["reason"]
    )
    assert hashes(tmp_path / "bank") == {
        name: sha for name, sha in hashes(whole).items() if name != "right"
    }
    shutil.copy(clips.parent / "right.mp4", video)
    assert (
        run(
            *arguments(
                "fit", tmp_path / "bank", manifest=tmp_path / "clips" / "clips.csv", batch_size=3
            )
        )
        == 0
    )
    assert (
        hashes(tmp_path / "bank") == hashes(whole)
        and MotionBank(tmp_path / "bank").failures() == {}
    )


@pytest.mark.parametrize("how", ["raises", "not finite"])
def test_clips_that_fail_together_are_tried_in_halves(
    run, clips, whole, tmp_path, monkeypatch, capfd, how
):
    from dataclasses import replace

    from trainers.motion import work

    start, step = MotionGuidance.start, work.denoising_step
    batches = []

    def started(guidance, model, size, names, *rest):
        batches.append(tuple(names))
        return start(guidance, model, size, names, *rest)

    def failing(model, at, prompt, state, control):
        if "right" not in batches[-1]:
            return step(model, at, prompt, state, control)
        if how == "raises":
            raise torch.OutOfMemoryError("no memory left")
        row = batches[-1].index("right")
        return replace(
            state,
            step=state.step + 1,
            latents=state.latents.index_fill(0, torch.tensor(row), float("nan")),
        )

    monkeypatch.setattr(MotionGuidance, "start", started)
    monkeypatch.setattr(work, "denoising_step", failing)
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips, batch_size=2)) == 1
    assert batches == [("left", "right"), ("left",), ("right",), ("still.life",)]
    assert ("no memory left" if how == "raises" else "no longer finite") in capfd.readouterr().err
    assert hashes(tmp_path / "bank") == {
        name: sha for name, sha in hashes(whole).items() if name != "right"
    }


def test_what_cannot_be_an_entry_does_not_stop_the_others(
    run, clips, whole, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr("datamodules.manifest._checked", lambda task, where: task)
    rows = "".join(
        f"{clips.parent}/{name}.mp4,a {name} cat,{'x' * 300 if name == 'right' else ''}\n"
        for name in NAMES
    )
    (tmp_path / "clips.csv").write_text("video,prompt,tags\n" + rows)
    assert run(*arguments("fit", tmp_path / "bank", manifest="clips.csv", batch_size=2)) == 1
    captured = capfd.readouterr()
    assert (
        (captured.out + captured.err).count("'right' failed: metadata: field 'tags'")
        == captured.err.count("metadata: field 'tags'")
        == 1
    )
    assert captured.err.rstrip().endswith("1 failed: right")
    assert hashes(tmp_path / "bank") == {
        name: sha for name, sha in hashes(whole).items() if name != "right"
    }
    assert MotionBank(tmp_path / "bank").inflight() == []


def test_videos_can_be_asked_for_later(run, clips, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "bank")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "bank" / "entries").iterdir()}
    assert (
        run(
            *arguments("fit", tmp_path / "bank", manifest=clips),
            "--model.finish",
            "true",
            "--trainer.max_steps",
            "3",
        )
        == 1
    )
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips)) == 0, "entries alone are there"
    assert (
        run(
            *arguments("fit", tmp_path / "bank", manifest=clips),
            "--model.finish",
            "true",
            "--out",
            "out",
        )
        == 0
    )
    assert {
        file: file.stat().st_mtime_ns for file in (tmp_path / "bank" / "entries").iterdir()
    } == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{name}.mp4" for name in NAMES
    )


def test_a_video_that_cannot_be_decoded_does_not_stop_the_others(
    run, clips, whole, tmp_path, monkeypatch, capfd
):
    """Two clips are too many to decode at once, and one cannot be decoded at all: its entry waits
    until it can.
    """
    from ditflow.models.families.cogvideox import CogVideoX

    decode, singles = CogVideoX.decode, iter(range(10))

    def with_little_memory(backbone, latents):
        if len(latents) > 1 or next(singles) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(backbone, latents)

    words = [
        *arguments("fit", tmp_path / "bank", manifest=clips, batch_size=2),
        "--model.finish",
        "true",
    ]
    with monkeypatch.context() as broken:
        broken.setattr(CogVideoX, "decode", with_little_memory)
        assert run(*words) == 1
    assert "1 failed: right" in capfd.readouterr().err and sorted(
        MotionBank(tmp_path / "bank")
    ) == ["left", "still.life"]
    assert run(*words) == 0 and len(list((tmp_path / "bank" / "videos").iterdir())) == len(NAMES)
    assert hashes(tmp_path / "bank") == hashes(whole)


@pytest.mark.parametrize("theirs", ["the same prompt", "another prompt"])
def test_where_another_process_was_done_first_its_entry_stays(
    run, clips, whole, tmp_path, monkeypatch, capfd, theirs
):
    """It publishes between our look and our write, from a device that rounds otherwise."""
    from dataclasses import replace

    put = MotionBank.put

    def second(bank, name, entry):
        if name == "right":
            metadata = (
                entry.metadata
                if theirs == "the same prompt"
                else replace(entry.metadata, prompt=theirs)
            )
            put(bank, name, replace(entry, parameters=entry.parameters + 1e-3, metadata=metadata))
        put(bank, name, entry)

    monkeypatch.setattr(MotionBank, "put", second)
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips, batch_size=2)) == (
        0 if theirs == "the same prompt" else 1
    )
    assert (
        "made with prompt 'another prompt' instead of 'a right cat'" in capfd.readouterr().err
    ) == (theirs == "another prompt")
    assert {
        name for name, sha in hashes(tmp_path / "bank").items() if sha == hashes(whole)[name]
    } == {"left", "still.life"}
    assert (MotionBank(tmp_path / "bank").failures(), MotionBank(tmp_path / "bank").inflight()) == (
        {},
        [],
    )


def test_killed_after_its_last_entry_a_run_is_brought_to_its_end_by_the_next(
    run, clips, whole, tmp_path, monkeypatch
):
    """No clip is left to do then, but the index, and the list of what was asked for."""
    with monkeypatch.context() as killed:
        killed.setattr(MotionBank, "reindex", lambda bank: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(*arguments("fit", tmp_path / "bank", manifest=clips))
    bank = MotionBank(tmp_path / "bank")
    assert hashes(tmp_path / "bank") == hashes(whole) and bank.requests.names() == set(NAMES)
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips)) == 0
    assert (tmp_path / "bank" / "index.jsonl").exists() and bank.requests.names() == set()


def test_interrupted_from_the_keyboard(run, clips, tmp_path, monkeypatch, capfd):
    import signal

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainers.motion.work.denoising_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert run(*arguments("fit", tmp_path / "bank", manifest=clips)) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert "The same command goes on from here." in capfd.readouterr().err


def test_a_full_disk_stops_the_run_and_loses_nothing(
    run, clips, whole, tmp_path, monkeypatch, capfd
):
    import errno

    written = []
    save = MotionBank.save_inflight

    def full(self, key, *rest):
        written.append(key)
        if len(written) == 4:
            raise BankStorageError.of(
                OSError(errno.ENOSPC, "No space left on device"), "write", key
            )
        return save(self, key, *rest)

    monkeypatch.setattr(MotionBank, "save_inflight", full)
    assert issubclass(BankStorageError, StorageError)
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips)) == 2
    assert (
        "the disk is full; free some space and run the same command again" in capfd.readouterr().err
    )
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips)) == 0
    assert hashes(tmp_path / "bank") == hashes(whole)


def test_the_module_holds_no_weights_and_counts_iterations(clips, tmp_path, monkeypatch):
    from trainers.commands import motion_cli

    seen = []
    conclude = motion_cli.conclude
    monkeypatch.setattr(
        motion_cli,
        "conclude",
        lambda data, trainer: seen.append(trainer) or conclude(data, trainer),
    )
    assert ditflow(monkeypatch, *arguments("fit", tmp_path / "bank", manifest=clips)) == 0
    (trainer,) = seen
    module = trainer.lightning_module
    assert (
        module.state_dict() == {}
        and list(module.modules()) == [module]
        and not list(module.parameters())
    )
    assert trainer.global_step == len(NAMES) * module.iterations == 6


def test_loggers_and_previews_write_only_where_they_are_told(run, clips, tmp_path):
    loggers = [
        part
        for name in ("CSVLogger", "TensorBoardLogger")
        for part in (f"--trainer.logger+={name}", "--trainer.logger.save_dir", f"logs/{name}")
    ]
    preview = [
        "--trainer.callbacks+=PreviewWriter",
        "--trainer.callbacks.every",
        "2",
        "--trainer.callbacks.out",
        "previews",
    ]
    assert run(*arguments("fit", "bank", manifest=clips), *loggers, *preview) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"bank", "logs", "previews"}
    (metrics,) = (tmp_path / "logs" / "CSVLogger").rglob("metrics.csv")
    rows = list(csv.DictReader(metrics.read_text().splitlines()))
    assert (
        sum(row["loss"] != "" for row in rows) == 6
        and {f"loss/{name}" for name in NAMES} <= rows[0].keys()
    )
    assert list((tmp_path / "logs" / "TensorBoardLogger").rglob("events.*"))
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == sorted(
        f"{name}-step002.mp4" for name in NAMES
    )


def test_nothing_but_the_bank_is_written(run, clips, tmp_path):
    assert (
        run(*arguments("fit", "bank", manifest=clips), "--trainer.enable_progress_bar", "false")
        == 0
    )
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a dog\nthe cat\n\n")
    return file


def test_predict_makes_every_video_once(run, whole, tmp_path, prompts):
    words = [*arguments("predict", whole, prompts=prompts, seeds="[0,1]"), "--out", "videos"]
    assert run(*words) == 0
    videos = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "videos").iterdir()}
    assert len(videos) == len(NAMES) * 2 * 2
    (tmp_path / "videos" / next(iter(videos))).unlink()
    assert run(*words) == 0
    again = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "videos").iterdir()}
    assert (
        again.keys() == videos.keys() and sum(again[name] != videos[name] for name in videos) == 1
    )


def test_predict_leaves_signals_as_they_were(run, whole, prompts):
    before = signal.getsignal(signal.SIGTERM)
    assert (
        run(*arguments("predict", whole, prompts=prompts, entries="[left]"), "--out", "videos") == 0
    )
    assert signal.getsignal(signal.SIGTERM) is before


def test_predict_is_injection(run, whole, tmp_path, prompts):
    from datamodules.prompts import video_name
    from ditflow import inject_motion

    assert (
        run(*arguments("predict", whole, prompts=prompts, entries="[left]"), "--out", "videos") == 0
    )
    video = inject_motion(tiny_backbone("rotary"), MotionBank(whole)["left"], "a dog", seed=0)
    assert_shows(tmp_path / "videos" / video_name("left", "a dog", 0), video)


def test_predict_from_pairs(run, whole, tmp_path):
    (tmp_path / "pairs.csv").write_text("entry,prompt,seed\nleft,a dog,7\nright,,\n")
    assert run(*arguments("predict", whole, prompts="pairs.csv"), "--out", "videos") == 0
    names = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert len(names) == 2 and names[0].endswith("-seed7.mp4") and "no-prompt" in names[1]


@pytest.mark.parametrize(
    ("rows", "seeds", "both"),
    [
        (
            "left,a dog,dance,\n",
            "[0,1]",
            "'left' with 'a dog' and seed 0 and 'left' with 'a dog' and seed 1",
        ),
        (
            "left,a dog,dance,\nright,a cat,dance,3\n",
            "[0]",
            "'left' with 'a dog' and seed 0 and 'right' with 'a cat' and seed 3",
        ),
    ],
)
def test_two_videos_of_one_name_are_refused(run, whole, tmp_path, capfd, rows, seeds, both):
    (tmp_path / "pairs.csv").write_text(f"entry,prompt,name,seed\n{rows}")
    assert (
        run(*arguments("predict", whole, prompts="pairs.csv", seeds=seeds), "--out", "videos") == 2
    )
    assert (
        f"pairs.csv names two videos 'dance' ({both})" in capfd.readouterr().err
        and not (tmp_path / "videos").exists()
    )
    (tmp_path / "pairs.csv").write_text(
        "entry,prompt,name,seed\nleft,a dog,dance,1\nleft,a dog,dance,1\n"
    )
    assert run(*arguments("predict", whole, prompts="pairs.csv"), "--out", "videos") == 0, (
        "one video that is asked for twice"
    )


def test_a_damaged_entry_does_not_stop_the_others(run, whole, tmp_path, prompts, capfd):
    shutil.copytree(whole, tmp_path / "bank")
    entry = tmp_path / "bank" / "entries" / "left.safetensors"
    entry.write_bytes(entry.read_bytes()[:-9])
    assert run(*arguments("predict", tmp_path / "bank", prompts=prompts), "--out", "videos") == 1
    assert "entry 'left' is truncated" in capfd.readouterr().err
    assert len(list((tmp_path / "videos").iterdir())) == (len(NAMES) - 1) * 2
    assert (
        run(
            *arguments("predict", tmp_path / "bank", prompts=prompts, entries="[left]"),
            "--out",
            "videos",
        )
        == 2
    )


def test_predict_drops_no_setting(run, whole, tmp_path, prompts, capfd):
    from datamodules.prompts import video_name
    from ditflow import inject_motion

    words = [*arguments("predict", whole, prompts=prompts, entries="[left]"), "--out", "videos"]
    assert run(*words, "--model.injection_blocks", "[0]") == 2
    assert "'left' holds no reference latents for key and value injection" in capfd.readouterr().err
    assert run(*words, "--model.guidance", "dynamic_index") == 0
    assert "kept" not in capfd.readouterr().out
    backbone, entry = tiny_backbone("rotary"), MotionBank(whole)["left"]
    video, other = (
        inject_motion(backbone, entry, "a dog", guidance_kind=kind)
        for kind in ("dynamic_index", "constant")
    )
    made = tmp_path / "videos" / video_name("left", "a dog", 0)
    assert_shows(made, video)
    with pytest.raises(AssertionError):
        assert_shows(made, other)
    assert run(*words) == 0
    assert "2 existing files kept" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("error", "stops"),
    [
        (MemoryError("no memory"), False),
        (getattr(torch, "AcceleratorError", StorageError)("illegal access"), True),
    ],
)
def test_what_fails_with_one_video_and_what_with_all(
    run, whole, tmp_path, prompts, monkeypatch, error, stops
):
    """A broken device is no video's fault: nothing is tried on it any more."""

    from trainers.motion import generated

    inject, calls = generated.videos_of, []

    def first_fails(*rest, **options):
        calls.append(rest)
        if len(calls) == 1:
            raise error
        return inject(*rest, **options)

    monkeypatch.setattr(generated, "videos_of", first_fails)
    words = [*arguments("predict", whole, prompts=prompts, entries="[left]"), "--out", "out"]
    if stops:
        with pytest.raises(type(error)):
            run(*words)
    else:
        assert run(*words) == 1
    assert (
        len(list((tmp_path / "out").glob("*.mp4"))) == len(calls) - 1 and (len(calls) == 1) == stops
    )
