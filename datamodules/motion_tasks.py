"""What there is to do: clips whose motion a bank still lacks (fit), or videos still to be made from
a bank's motions (predict).

The bank says what is finished, so a run that was stopped goes on when it is started again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch

from datamodules.encoding_cache import References
from datamodules.generations import Generation, generations_of
from datamodules.library import Clips, MotionBatch, one_line, reported
from datamodules.manifest import MotionTask, read_manifest, tasks_of_videos
from datamodules.queue import inflight as records
from datamodules.queue.generation_queue import Pending
from datamodules.queue.job import Job
from datamodules.queue.work_queue import Claims, Plan
from datamodules.step_loader import Leg, Trajectory, share, turns
from ditflow.bank import BankEntry, BankError, EntryError, MotionBank
from ditflow.bank.failures import Failures
from ditflow.bank.remote_storage import open_folder
from ditflow.bank.storage import LocalFolder
from ditflow.core.sizes import VideoSize


class MotionTaskModule(L.LightningDataModule):
    """Clips or prompts, and the bank that they go with.

    Args:
        bank: Folder or URL of the motion bank; `fit` makes it where it is missing.
        out: Folder for videos; by default `videos` in the bank.
        manifest: CSV or JSONL file of the clips, with columns video, prompt, and optionally name,
            negative_prompt, start, stride
            or fps, seed, tags (split by ';'), and for signals that read words caption, subject,
            caption_subject.
        videos: Pattern such as 'clips/*.mp4', instead of a manifest.
        prompt: What the optimised video shows, for all clips of `videos`.
        caption: What the clips of `videos` show, for signals that read words.
        negative_prompt: What it should not show, where the manifest does not say; by default as
            recommended, and for `predict` the entry's own.
        frames: Frames taken of each clip; by default as many as the backbone was trained for. With
            auto, a shorter clip gives as
            many as it has and the backbone takes.
        fps: Frames taken a second, whatever a clip's own rate; by default frames are taken by
            number. For clips whose row in the
            manifest has neither fps nor stride.
        size: Height and width in pixels that frames are resized to; by default the backbone's.
        seed: For clips without one in the manifest.
        batch_size: Clips optimised together; results do not depend on it, memory does.
        cache: Folder for encoded clips and prompts; by default `cache` in the bank.
        entries: Entries to make videos from; by default all of the bank.
        prompts: Text file with a prompt on each line, for all entries; or CSV or JSONL file with
            entry, prompt and optionally seed and name (of the video).
        seeds: Each prompt is done with each of these.
        attempts: Runs in which a clip may fail before it is not tried any more.
    """

    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        bank: str,
        out: str | None = None,
        *,
        manifest: str | None = None,
        videos: str | None = None,
        prompt: str = "",
        caption: str = "",
        negative_prompt: str | None = None,
        frames: int | Literal["auto"] | None = None,
        fps: float | None = None,
        size: tuple[int, int] | None = None,
        seed: int = 0,
        batch_size: int = 1,
        cache: str | None = None,
        entries: list[str] | None = None,
        prompts: str | None = None,
        seeds: list[int] = [0],  # noqa: B006  shown by --help and never changed
        attempts: int = 3,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(
                f"batch_size is {batch_size}, but at least one clip is optimised at a time."
            )
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps:g}, but it must be a finite number above 0.")
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}, but a clip is tried once at least.")
        self.path, self.out, self.cache = bank, out, cache
        self.manifest, self.videos, self.prompt, self.caption, self.negative_prompt = (
            manifest,
            videos,
            prompt,
            caption,
            negative_prompt,
        )
        self.frames, self.fps, self.size, self.seed, self.batch_size = (
            frames,
            fps,
            size,
            seed,
            batch_size,
        )
        self.entries, self.prompts, self.seeds, self.attempts = entries, prompts, seeds, attempts
        self.tasks: list[MotionTask] = []
        self.generations: list[Generation] = []
        self.failed: dict[str, str] = {}  # clip or video: reason

    def setup(self, stage: str) -> None:
        """What is asked for, as rank 0 reads it."""
        self.bank = MotionBank(self.path, create=stage == "fit")
        if stage == "fit":
            self.tasks = self.job.agreed(self._read_tasks)
        else:
            self.generations = self.job.agreed(self._read_generations)

    def share_out(self) -> None:
        """One plan of what is left to fit, made by rank 0 from the bank; from here on every process
        takes what is free.
        """
        plan = self.job.agreed(self._make_plan)
        self.claims = Claims(
            self.clips,
            self.job.leases(self.bank),
            plan,
            turns(plan.todo, *self._deal),
            self.batch_size,
            self.job.wait,
        )
        self.failed = self.claims.failed

    @cached_property
    def job(self) -> Job:
        return Job(self.trainer)

    @cached_property
    def clips(self) -> Clips:
        module = self.trainer.lightning_module
        video_of = self.video_of if module.finish else None
        return Clips(
            self.tasks,
            self.bank,
            module.method,
            self.references(),
            video_of,
            keep_reference=module.keep_reference,
        )

    def train_dataloader(self) -> Trajectory:
        """The steps that this process will take: of its own share first, which is encoded now, and
        of what others leave.
        """
        steps, todo = self.trainer.lightning_module.iterations, self.claims.plan.todo
        self.clips.encode(
            share(todo, *self._deal),
            self.fail,
            self.job.stop_if_told,
            bar=self.trainer.is_global_zero,
        )
        return Trajectory(
            self.claims,
            self._batch,
            steps,
            goes_on=self.claims.goes_on,
            length=2 * len(todo) * steps,
        )

    def predict_dataloader(self) -> Pending:
        """The videos that do not exist yet."""
        left = [generation for generation in self.generations if not generation.file.exists()]
        if (kept := len(self.generations) - len(left)) and self.trainer.is_global_zero:
            print(f"{kept} existing {'file' if kept == 1 else 'files'} kept", flush=True)
        leases = self.job.leases(str(self.video_folder))
        return Pending(turns(left, *self._deal[:2]), leases, self.job.wait)

    def teardown(self, stage: str) -> None:
        self.job.leave()

    def on_exception(self, exception: BaseException) -> None:
        self.job.leave()

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """A batch stays the same for many steps: whoever works on it moves it once, when its first
        step comes.
        """
        return batch

    def publish(self, batch: MotionBatch, entries: Mapping[str, BankEntry]) -> None:
        """Put the entries of a batch into the bank, but for those that an earlier run or another
        process has put there, and forget its record and that its clips ever failed."""
        for name, entry in entries.items():
            with reported(name, self.fail):
                self._put(name, entry)
        for name in batch.leg.names:  # without a signal there are no entries
            Failures(open_folder(self.path)).forget(name)
        records.drop(self.bank, records.key_of(batch.leg.names, batch.settings))
        self.claims.settle(batch.leg.names)

    def _put(self, name: str, entry: BankEntry) -> None:
        """Where another process was done with the clip first, its entry stays, though bits differ
        between devices. ValueError where it means something else.
        """
        try:
            if name not in self.bank:
                self.bank.put(name, entry)
        except BankError:
            if name not in self.bank:
                raise
            self.clips.check_same(name)

    def fail(self, name: str, error: Exception) -> None:
        """Report a clip or a video that cannot be done, so that the others can go on."""
        self.failed[name] = one_line(error)
        print(f"\n{name!r} failed: {self.failed[name]}", file=sys.stderr, flush=True)
        if self.tasks:
            if name not in self.bank and not self.claims.has_failed(name):
                self.bank.mark_failed(name, self.failed[name])
            self.claims.settle([name])

    def give_up(self, batch: MotionBatch, error: Exception) -> None:
        """A clip that fails by itself is reported. Clips that fail together start again in halves,
        and those whose record is damaged as they are.
        """
        records.drop(self.bank, records.key_of(batch.leg.names, batch.settings))
        if isinstance(error, EntryError) and batch.leg.record is not None:
            print(f"\n{', '.join(batch.leg.names)} will be begun again: {error}", flush=True)
            return self.claims.begin_again(batch.leg)
        self._try_again(batch.leg, error)

    def outcome(self) -> tuple[list[str], set[str]]:
        """The names of all clips or videos asked for, and those that are done."""
        if self.tasks:
            names = [task.name for task in self.tasks]
            return names, {
                name for name in names if name not in self.claims.left and name not in self.failed
            }
        files = [generation.file for generation in self.generations]
        return [file.stem for file in files], {file.stem for file in files if file.exists()}

    @property
    def _deal(self) -> tuple[int, int, int]:
        return self.trainer.global_rank, self.trainer.world_size, self.batch_size

    def _make_plan(self) -> Plan:
        print(self.trainer.lightning_module.method)
        plan = self.clips.plan(self.attempts)
        self.clips.sweep(plan.todo)
        if plan.todo:
            self.bank.asked.note([task.name for task in self.tasks])
        for name, reason in plan.failed.items():
            print(f"\n{name!r} failed: {reason}", file=sys.stderr, flush=True)
        return plan

    def _batch(self, leg: Leg) -> MotionBatch | None:
        with reported(leg, self._try_again):
            return self.clips.batch(leg)
        return None

    def _try_again(self, leg: Leg, error: Exception) -> None:
        if len(leg.names) == 1:
            return self.fail(leg.names[0], error)
        print(
            f"\n{', '.join(leg.names)} failed together and will be tried in halves: {error}",
            flush=True,
        )
        self.claims.halve(leg, smaller=isinstance(error, torch.OutOfMemoryError | MemoryError))

    def references(self) -> References:
        """The encoder of clips and prompts, at the size asked for."""
        backbone = self.trainer.lightning_module.backbone
        height, width = (
            self.size
            if self.size is not None
            else (backbone.spec.size.height, backbone.spec.size.width)
        )
        size = VideoSize(
            self.frames if isinstance(self.frames, int) else backbone.spec.size.frames,
            height,
            width,
        )
        folder = self.cache if self.cache is not None else self._beside("cache", "--data.cache")
        return References(folder, backbone, size, auto=self.frames == "auto")

    def video_of(self, name: str) -> Path:
        """The video of a clip that is finished, not only guided."""
        return self.video_folder / f"{name}.mp4"

    @property
    def video_folder(self) -> Path:
        return Path(self.out if self.out is not None else self._beside("videos", "--out"))

    def _beside(self, name: str, option: str) -> str:
        folder = open_folder(self.path)
        if not isinstance(folder, LocalFolder):
            raise ValueError(
                f"the bank {self.path} is not a local folder: name one for its {name} with {option}."
            )
        return str(folder.root / name)

    def _read_tasks(self) -> list[MotionTask]:
        if (self.manifest is None) == (self.videos is None):
            raise ValueError(
                "name the clips either by --data.manifest clips.csv or by --data.videos 'clips/*.mp4'."
            )
        defaults: Any = {
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "fps": self.fps,
        }
        if self.manifest is not None:
            return read_manifest(self.manifest, **defaults)
        return tasks_of_videos(str(self.videos), self.prompt, caption=self.caption, **defaults)

    def _read_generations(self) -> list[Generation]:
        return generations_of(
            self.bank,
            self.prompts,
            entries=self.entries,
            negative_prompt=self.negative_prompt,
            seeds=self.seeds,
            folder=self.video_folder,
        )
