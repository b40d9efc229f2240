"""Clips on their way into a bank: encoded once, kept by content, dealt out to ranks, stopped between two clips."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from datamodules.manifest import MotionTask, read_manifest
from datamodules.motion_tasks import MotionTaskModule
from datamodules.references import References
from ditflow.grid import VideoSize
from ditflow.video import VideoError, read_video
from tests.clips import NAMES, write_clips
from tests.registry import SIZE, tiny_backbone


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def task(clips) -> MotionTask:
    return read_manifest(clips)[0]


@pytest.fixture
def references(tmp_path) -> References:
    return References(tmp_path / "cache", tiny_backbone("rotary"), SIZE)


def test_clip_and_prompts_are_those_of_the_backbone(references, task, clips):
    clip = read_video(clips.parent / "left.mp4", frames=SIZE.frames, size=(SIZE.height, SIZE.width))
    backbone = references.backbone
    for _ in range(2):  # made, then read
        found = references.clip(task)
        assert found.sha256 == clip.sha256
        torch.testing.assert_close(found.latents, backbone.encode(clip.frames[None])[0], rtol=0, atol=0)
        torch.testing.assert_close(references.text(["a", "the cat"]), torch.cat([backbone.embed(["a"]), backbone.embed(["the cat"])]), rtol=0, atol=0)


def test_what_is_kept_is_not_made_again(references, task, monkeypatch):
    first = references.clip(task)
    for name in ("encode", "embed"):
        monkeypatch.setattr(type(references.backbone), name, None)
    torch.testing.assert_close(references.clip(replace(task, name="other", prompt="other", seed=3)).latents, first.latents, rtol=0, atol=0)


def test_what_content_depends_on_is_kept_apart(references, task, clips, tmp_path):
    """Bytes, frames, size, backbone: each makes a file of its own."""
    smaller, other = VideoSize(5, 32, 48), tiny_backbone("rotary-ddim")
    for change in (replace(task, start=1), replace(task, video=str(clips.parent / "right.mp4")), task):
        references.clip(change)
    References(references.folder, references.backbone, smaller).clip(replace(task, stride=2))
    References(references.folder, references.backbone, smaller).clip(task)
    References(references.folder, other, SIZE).clip(task)
    assert len(list(references.folder.glob("clip-*.safetensors"))) == 6


def test_a_damaged_file_is_made_again(references, task):
    first = references.clip(task).latents
    (file,) = references.folder.glob("clip-*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    torch.testing.assert_close(references.clip(task).latents, first, rtol=0, atol=0)
    assert file.stat().st_size > 40


def test_a_missing_clip_says_so(references, task):
    with pytest.raises(VideoError, match=r"none\.mp4"):
        references.clip(replace(task, video="none.mp4"))


class OneOf:
    """A strategy that hands out what rank 0 has planned."""

    def __init__(self) -> None:
        self.planned = None

    def broadcast(self, plan):
        self.planned = self.planned if plan is None else plan
        return self.planned


@pytest.fixture
def module(clips, tmp_path):
    backbone = tiny_backbone("rotary")
    method = SimpleNamespace(negative_prompt="ugly", provenance={}, settings={"steps": 4})
    data = MotionTaskModule(str(tmp_path / "bank"), manifest=str(clips), frames=SIZE.frames, size=(SIZE.height, SIZE.width))
    data.trainer = SimpleNamespace(
        strategy=OneOf(),
        is_global_zero=True,
        global_rank=0,
        world_size=1,
        received_sigterm=False,
        lightning_module=SimpleNamespace(backbone=backbone, method=method, finish=False, keep_reference=False, iterations=2),
    )
    data.setup("fit")
    return data


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_ranks_share_the_clips_of_one_plan(module, world_size):
    seen = []
    for rank in range(world_size):
        module.trainer.global_rank, module.trainer.world_size, module.trainer.is_global_zero = rank, world_size, rank == 0
        seen += [(name, step) for batch, step in module.train_dataloader() for name in batch.leg.names]
    assert sorted(seen) == sorted((name, step) for name in NAMES for step in range(2))


def test_a_batch_holds_all_that_its_clips_need(module):
    module.batch_size = 3
    (batch, _), *_ = module.train_dataloader()
    assert batch.leg.names == NAMES and batch.latents.shape[0] == batch.text.shape[0] == batch.negative.shape[0] == 3
    assert {task.negative_prompt for task in batch.tasks} == {"ugly"}
    module.trainer.lightning_module.method.settings["steps"] = 5
    assert next(iter(module.train_dataloader()))[0].settings != batch.settings


def test_sigterm_stops_between_two_clips(module):
    module.trainer.received_sigterm = True
    with pytest.raises(SIGTERMException):
        module.train_dataloader()


def test_a_remote_bank_needs_local_folders_for_what_is_no_entry():
    data = MotionTaskModule("memory://bank")
    with pytest.raises(ValueError, match="--out"):
        _ = data.video_folder
    assert str(MotionTaskModule("memory://bank", out="videos").video_folder) == "videos"


def test_a_local_bank_may_be_named_by_its_url(tmp_path):
    assert MotionTaskModule(f"file://{tmp_path}/bank").video_folder == tmp_path / "bank" / "videos"
