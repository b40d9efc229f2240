"""Clips on their way into a bank: encoded once, kept by content, dealt out to ranks, stopped
between two clips.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from datamodules.batching import Batching
from datamodules.encoding_cache import EncodingCache
from datamodules.manifest import MotionTask, read_manifest
from datamodules.motion_tasks import MotionTaskModule
from datamodules.rows import ManifestError
from ditflow.core.sizes import VideoSize
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.guidance import MotionGuidance
from ditflow.video import VideoError, read_video, video_sha256
from tests.clips import NAMES, write_clips
from tests.numbered import numbers, write_numbered
from tests.registry import SIZE, tiny_backbone


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def task(clips) -> MotionTask:
    return read_manifest(clips)[0]


@pytest.fixture
def references(tmp_path) -> EncodingCache:
    return EncodingCache(tmp_path / "cache", tiny_backbone("rotary"), SIZE)


def test_clip_and_prompts_are_those_of_the_backbone(references, task, clips):
    clip = read_video(clips.parent / "left.mp4", frames=SIZE.frames, size=(SIZE.height, SIZE.width))
    backbone = references.backbone
    for _ in range(2):  # made, then read
        found = references.clip(task)
        assert found.sha256 == clip.sha256
        torch.testing.assert_close(
            found.latents, backbone.encode(clip.frames[None])[0], rtol=0, atol=0
        )
        torch.testing.assert_close(
            references.text(["a", "the cat"]),
            torch.cat([backbone.embed(["a"]), backbone.embed(["the cat"])]),
            rtol=0,
            atol=0,
        )


def test_what_is_kept_is_not_made_again(references, task, monkeypatch):
    first = references.clip(task)
    for name in ("encode", "embed"):
        monkeypatch.setattr(type(references.backbone), name, None)
    torch.testing.assert_close(
        references.clip(replace(task, name="other", prompt="other", seed=3)).latents,
        first.latents,
        rtol=0,
        atol=0,
    )


def test_what_content_depends_on_is_kept_apart(references, task, clips, tmp_path):
    """Bytes, frames, size, backbone: each makes a file of its own."""
    smaller, other = VideoSize(8, 32, 48), tiny_backbone("rotary-ddim")
    for change in (
        replace(task, start=1),
        replace(task, video=str(clips.parent / "right.mp4")),
        task,
    ):
        references.clip(change)
    EncodingCache(references.folder, references.backbone, smaller).clip(replace(task, start=2))
    EncodingCache(references.folder, references.backbone, smaller).clip(task)
    EncodingCache(references.folder, other, SIZE).clip(task)
    assert len(list(references.folder.glob("clip-*.safetensors"))) == 6
    assert references.hash_of(replace(task, stride=2)) != references.hash_of(task)


def test_frames_by_time(references, task):
    """fps is a part of what is asked for: other frames, another file, the same latents as from the
    frames themselves.
    """
    timed = replace(task, fps=4.0, video=str(task.video))
    clip = read_video(task.video, fps=4.0)
    assert references.hash_of(timed) != references.hash_of(task) and len(clip.frames) == 6
    with pytest.raises(
        VideoError,
        match=r"lasts 1.38 s from start=0, but .* need 2.25 s. This backbone takes no clip of "
        "fewer than 8 frames",
    ):
        references.clip(timed)


def numbered_task(folder, count: int, **changes) -> MotionTask:
    path = write_numbered(folder / f"{count}.mp4", "libx264", count, size=(SIZE.height, SIZE.width))
    return MotionTask(f"clip{count}", str(path), "a cat", **changes)


@pytest.mark.parametrize(("count", "taken"), [(9, 9), (40, 9), (8, 8), (10, 9)])
def test_auto_takes_what_the_clip_has_and_the_backbone_takes(references, tmp_path, count, taken):
    auto = EncodingCache(tmp_path / "cache", references.backbone, SIZE, auto=True)
    task = numbered_task(tmp_path, count)
    assert auto.size_of(task) == replace(SIZE, frames=taken)
    assert numbers(auto.read(task).frames) == list(range(taken))
    assert auto.clip(task).latents.shape[0] == SIZE.frames // 4 + SIZE.frames % 4 - (taken == 8)


def test_auto_with_stride_and_fps(references, tmp_path):
    auto = EncodingCache(tmp_path / "cache", references.backbone, VideoSize(25, 32, 48), auto=True)
    assert numbers(auto.read(numbered_task(tmp_path, 40, stride=2)).frames) == list(range(0, 34, 2))
    assert numbers(auto.read(numbered_task(tmp_path, 40, fps=12.5)).frames) == list(range(0, 34, 2))
    assert auto.size_of(numbered_task(tmp_path, 40, start=20)).frames == 17  # of 20 frames


def test_too_short_for_any_video(references, tmp_path):
    auto = EncodingCache(tmp_path / "cache", references.backbone, SIZE, auto=True)
    with pytest.raises(
        VideoError,
        match=r"7.mp4 gives 7 frames. This backbone takes no clip of fewer than 8 frames.",
    ):
        auto.size_of(numbered_task(tmp_path, 7))


def test_a_clip_that_is_too_short_names_what_the_backbone_takes(references, tmp_path):
    with pytest.raises(
        VideoError,
        match=r"8.mp4 has 8 frames, but frames=9 .* need 9. Use --data.frames 8, or auto.",
    ):
        references.read(numbered_task(tmp_path, 8))
    with pytest.raises(
        VideoError,
        match=r"7.mp4 has 7 frames.* This backbone takes no clip of fewer than 8 frames.",
    ):
        references.read(numbered_task(tmp_path, 7))


def test_what_is_encoded_need_not_be_read(references, task, monkeypatch):
    assert not references.has(task)
    container = references.clip(task).container
    assert references.has(task) and container == "mov"
    monkeypatch.setattr("datamodules.frames.read_video", None)
    assert references.clip(task).container == container


def test_a_damaged_file_is_made_again(references, task):
    first = references.clip(task).latents
    (file,) = references.folder.glob("clip-*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    torch.testing.assert_close(references.clip(task).latents, first, rtol=0, atol=0)
    assert file.stat().st_size > 40


def test_an_encoder_that_finds_no_room_gets_that_of_the_other(references, task, monkeypatch):
    backbone, encode, held = references.backbone, type(references.backbone).encode, []

    def with_little_memory(self, frames):
        held.append(self.encoders._text is not None)
        if held[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, frames)

    monkeypatch.setattr(type(backbone), "encode", with_little_memory)
    references.text(["a"])
    assert references.clip(task).latents.isfinite().all() and held == [True, False]
    monkeypatch.setattr(
        type(backbone), "encode", lambda *_: with_little_memory(backbone, backbone.embed(["a"]))
    )
    with pytest.raises(torch.OutOfMemoryError):
        references.clip(replace(task, start=1))


def test_a_clip_is_read_again_only_where_it_was_written_since(
    references, task, clips, tmp_path, monkeypatch
):
    read = []
    monkeypatch.setattr(
        "datamodules.frames.video_sha256",
        lambda path: read.append(path) or video_sha256(path),
    )
    (tmp_path / "pictures").mkdir()
    for video, written in (
        (tmp_path / "clip.mp4", tmp_path / "clip.mp4"),
        (tmp_path / "pictures", tmp_path / "pictures" / "1.png"),
    ):
        again = replace(task, video=str(video))
        written.write_bytes(b"one")
        first = [
            references.hash_of(again),
            references.hash_of(again),
            references.hash_of(replace(again, start=1)),
        ]
        assert first[0] == first[1] != first[2] and read == [str(video)]
        written.write_bytes(b"another")
        assert references.hash_of(again) != first[0] and read == [str(video)] * 2
        read.clear()


def test_a_missing_clip_says_so(references, task):
    with pytest.raises(VideoError, match=r"none\.mp4"):
        references.clip(replace(task, video="none.mp4"))


class Broadcast:
    """Hands out to every rank what rank 0 said, one after the other."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def of(self, rank: int) -> SimpleNamespace:
        heard = iter(range(99))
        return SimpleNamespace(
            broadcast=lambda said: (
                self.said.append(said) or said if rank == 0 else self.said[next(heard)]
            )
        )


@pytest.fixture
def module(clips, tmp_path):
    """The module of one of the ranks, as far as the Trainer brings it before the loop."""
    backbone, broadcast, modules = tiny_backbone("rotary"), Broadcast(), []
    recipe = SimpleNamespace(
        negative_prompt="ugly",
        provenance={},
        former={},
        settings={"steps": 4},
        guidance=MotionGuidance(AttentionMotionFlow(2), "rotary_tables"),
    )

    def batching(data: MotionTaskModule) -> Batching:
        return Batching(EncodingCache(data.cache_folder, backbone, SIZE), recipe.guidance.signal)

    def module(rank: int = 0, world_size: int = 1, **options) -> MotionTaskModule:
        place = {"bank": str(tmp_path / "bank"), "manifest": str(clips)}
        data = MotionTaskModule(
            **place | options, frames=SIZE.frames, size=(SIZE.height, SIZE.width)
        )
        data.trainer = SimpleNamespace(
            strategy=broadcast.of(rank),
            is_global_zero=rank == 0,
            global_rank=rank,
            world_size=world_size,
            received_sigterm=False,
            callbacks=[],
            lightning_module=SimpleNamespace(
                reads_images=False,
                recipe=recipe,
                batching=batching,
                finish=False,
                keep_reference=False,
                iterations=2,
            ),
        )
        modules.append(data)
        data.setup("fit")
        data.share_out()
        return data

    yield module
    for data in modules:
        data.teardown("fit")


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_ranks_share_the_clips_of_one_plan(module, world_size):
    ranks = [module(rank, world_size) for rank in range(world_size)]
    seen = []
    for data in ranks[::-1]:  # rank 0 last: it takes what the others leave
        for batch, step in data.train_dataloader():
            seen.append((*batch.leg.names, step))
            if step == 1:
                data.queue.left.pop(
                    batch.leg.names[0]
                )  # done; the lease is kept, so that no other takes it again
                for other in ranks:
                    other.queue.left.pop(batch.leg.names[0], None)
    assert sorted(seen) == sorted((name, step) for name in NAMES for step in range(2))


def test_a_batch_holds_all_that_its_clips_need(module):
    data = module(batch_size=3)
    batch, _ = next(iter(data.train_dataloader()))
    assert (
        batch.leg.names == NAMES
        and batch.latents.shape[0] == batch.text.shape[0] == batch.negative.shape[0] == 3
    )
    assert {task.negative_prompt for task in batch.tasks} == {"ugly"}
    data.trainer.lightning_module.recipe.settings["steps"] = 5
    assert next(iter(data.train_dataloader()))[0].settings != batch.settings


def test_a_batch_that_another_rank_was_to_encode_leaves_no_encoder_behind(module):
    data = module(batch_size=3)
    items = iter(data.train_dataloader())
    shutil.rmtree(data.library.clips.folder)
    batch, _ = next(items)
    encoders = data.library.clips.backbone.encoders
    assert batch.leg.names == NAMES and (encoders._vae, encoders._text) == (None, None)


def test_what_rank_0_refuses_ends_all_and_it_alone_says_why(module):
    with pytest.raises(ManifestError, match="there is no file"):
        module(0, 2, manifest="none.csv")
    with pytest.raises(SystemExit) as silent:
        module(1, 2, manifest="none.csv")
    assert silent.value.code == 2


def test_a_rank_that_hears_nothing_says_so(module):
    data = module(0, 2)
    data.trainer.is_global_zero = False

    def broken(_):
        raise RuntimeError("Connection closed by peer")

    data.trainer.strategy.broadcast = broken
    with pytest.raises(ValueError, match="rank 0 ended before it had a plan"):
        data.share_out()


def test_sigterm_stops_between_two_clips(module):
    data = module()
    data.trainer.received_sigterm = True
    with pytest.raises(SIGTERMException):
        data.train_dataloader()


def test_nobody_but_rank_0_waits_and_it_no_longer_than_the_run_may_last(module, monkeypatch):
    monkeypatch.setattr("datamodules.queue.job.PAUSE", 0.0)
    data, other = module(0, 2), module(1, 2)
    assert data.job.wait() is True and other.job.wait() is False
    data.trainer.callbacks = [Timer(duration={"seconds": 0})]
    assert data.job.wait() is False


def test_a_remote_bank_needs_local_folders_for_what_is_no_entry():
    data = MotionTaskModule("memory://bank")
    with pytest.raises(ValueError, match="--out"):
        _ = data.video_folder
    assert str(MotionTaskModule("memory://bank", out="videos").video_folder) == "videos"


def test_a_local_bank_may_be_named_by_its_url(tmp_path):
    assert MotionTaskModule(f"file://{tmp_path}/bank").video_folder == tmp_path / "bank" / "videos"
