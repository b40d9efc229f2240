"""The work of a run: clips whose motion a bank still lacks (`fit`), or videos that do not exist yet
(`predict`).

The bank records what is finished. A run that was stopped continues when it is started again.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch

from datamodules.batching import MotionBatch
from datamodules.faults import reported, say_failed
from datamodules.frames import FrameBatch
from datamodules.library import Library
from datamodules.manifest import MotionTask, check_images, tasks_of
from datamodules.outcomes import Outcomes
from datamodules.places import beside
from datamodules.prompts import generations_of
from datamodules.queue.generation_queue import Generation, GenerationQueue
from datamodules.queue.job import Job
from datamodules.queue.step_loader import StepLoader
from datamodules.queue.work_queue import Leg, Plan, WorkQueue, share, turns
from ditflow.bank import MotionBank
from ditflow.core.sizes import VideoSize
from ditflow.files import expanded


class MotionTaskModule(L.LightningDataModule):
    """The clips to take motion from (`fit`) or the prompts to render (`predict`), and their bank.

    Args:
        bank: Folder or URL of the motion bank; `fit` makes it where it is missing.
        out: Folder for videos; by default `videos` in the bank.
        manifest: CSV or JSONL file with one row for each clip. Its columns are video and prompt,
            and optionally name, negative_prompt, start, stride or fps, seed, image, and tags (split
            by ';'). Signals that read words also use caption, subject and caption_subject.
        videos: Pattern that matches the clips, such as 'clips/*.mp4', instead of a manifest.
        prompt: What the optimised video shows, for all clips of `videos`.
        caption: What the clips of `videos` show. Only signals that read words use it.
        negative_prompt: What the video should not show, where the manifest does not say. By default
            `fit` uses the backbone's recommended text, and `predict` that of the entry.
        frames: Number of frames taken from each clip, and of videos with the motion of a field; by
            default as the backbone was trained for. With auto, short clips give what they have.
        fps: Frames taken from each second of a clip, above 0. By default frames are taken by
            number. The fps or stride of a row in the manifest comes first.
        size: Height and width in pixels of these frames; by default the backbone's.
        image: File of the picture that videos of an image-to-video backbone begin with, where no
            column image names one. It is resized, and its middle cut out, to the size of the video.
        seed: Random seed of clips that have none in the manifest.
        batch_size: Clips or videos made together, at least 1; affects memory and time, but not
            results. With auto, the number that is fastest here is measured first.
        cache: Folder for encoded clips and prompts; by default `cache` in the bank.
        entries: Names of the bank entries to make videos from; by default all of the bank.
        prompts: Text file with one prompt a line, each used with all entries. Or a CSV or JSONL
            file with entry, prompt, and optionally seed, image and name (of the video). Or a
            video that ditflow made, for its prompt.
        seeds: Random seeds: each prompt gives one video for each of them.
        attempts: Number of runs in which a clip may fail, at least 1, before it is skipped.
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
        image: str | None = None,
        seed: int = 0,
        batch_size: int | Literal["auto"] = 1,
        cache: str | None = None,
        entries: list[str] | None = None,
        prompts: str | None = None,
        seeds: list[int] = [0],  # noqa: B006  shown by --help and never changed
        attempts: int = 3,
    ) -> None:
        super().__init__()
        if batch_size != "auto" and batch_size < 1:
            raise ValueError(
                f"batch_size is {batch_size}, but at least one clip is optimised at a time."
            )
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps:g}, but it must be a finite number above 0.")
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}, but a clip is tried once at least.")
        self.path, self.out, self.cache = bank, out, cache
        self.manifest, self.videos = manifest, videos
        self.prompt, self.caption, self.negative_prompt = prompt, caption, negative_prompt
        self.frames, self.fps, self.size, self.seed = frames, fps, size, seed
        self.batch_size = batch_size
        self.image = str(expanded(image).absolute()) if image else ""
        self.entries, self.prompts, self.seeds, self.attempts = entries, prompts, seeds, attempts
        self.tasks: list[MotionTask] = []
        self.generations: list[Generation] = []
        self.failed: dict[str, str] = {}  # clip or video: reason
        self.queue: WorkQueue | GenerationQueue

    def setup(self, stage: str) -> None:
        """Read the clips or prompts on rank 0, and share them with the other ranks."""
        self.bank = MotionBank(self.path, create=stage == "fit")
        if stage == "fit":
            self.tasks = self.job.agreed(self._read_tasks)
        else:
            self.generations = self.job.agreed(self._read_generations)

    def share_out(self) -> None:
        """Plan what is left to fit on rank 0, and make this process's queue from the plan."""
        plan = self.job.agreed(self._make_plan)
        self.together = self._together(len(plan.todo))
        leases, order = self.job.leases(self.bank), turns(plan.todo, *self._deal)
        queue = WorkQueue(self.library, leases, plan, order, self.together, self.job.wait)
        self.queue, self.outcomes = queue, Outcomes(self.library, queue)
        self.failed = self.queue.failed

    def share_videos(self) -> None:
        """Make this process's queue of the videos that do not exist yet."""
        left = [generation for generation in self.generations if not generation.file.exists()]
        if (kept := len(self.generations) - len(left)) and self.trainer.is_global_zero:
            print(f"{kept} existing {'file' if kept == 1 else 'files'} kept", flush=True)
        self.together = self._together(len(left))
        leases, order = self.job.leases(str(self.video_folder)), turns(left, *self._deal)
        alike = self.trainer.lightning_module.alike
        self.queue = GenerationQueue(order, leases, alike, self.together, self.job.wait)
        self.failed = self.queue.failed

    @cached_property
    def job(self) -> Job:
        return Job(self.trainer)

    @cached_property
    def library(self) -> Library:
        module = self.trainer.lightning_module
        return Library(
            self.tasks,
            self.bank,
            module.recipe,
            module.batching(self),
            video_of=self.video_of if module.finish else None,
            keep_reference=module.keep_reference,
        )

    def train_dataloader(self) -> StepLoader:
        """The denoising steps of this process: first those of its own share, which is encoded now,
        then those of clips that other processes leave.
        """
        steps, todo = self.trainer.lightning_module.iterations, self.queue.plan.todo
        self.library.batching.prepare(
            self.library.pick(share(todo, *self._deal)),
            self.outcomes.fail,
            self.job.stop_if_told,
            bar=self.trainer.is_global_zero,
        )
        length, goes_on = 2 * len(todo) * steps, self.queue.goes_on
        return StepLoader(self.queue, self._batch, steps, goes_on=goes_on, length=length)

    def predict_dataloader(self) -> GenerationQueue:
        """The videos of this process, in batches."""
        return self.queue

    def teardown(self, stage: str) -> None:
        self.job.leave()

    def on_exception(self, exception: BaseException) -> None:
        self.job.leave()

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Leave the batch where it is. It serves many steps, and the module moves it once, at its
        first step.
        """
        return batch

    def outcome(self) -> tuple[list[str], set[str]]:
        """The names of all requested clips or videos, and of those that are done."""
        if self.tasks:
            return [task.name for task in self.tasks], self.outcomes.done()
        files = [generation.file for generation in self.generations]
        return [file.stem for file in files], {file.stem for file in files if file.exists()}

    @property
    def _deal(self) -> tuple[int, int, int]:
        return self.trainer.global_rank, self.trainer.world_size, self.together

    def _together(self, most: int) -> int:
        """How many of so many clips or videos each rank makes together."""
        if self.batch_size != "auto":
            return self.batch_size
        return self.job.agreed(lambda: self.trainer.lightning_module.batch_size(most))

    def _make_plan(self) -> Plan:
        print(self.trainer.lightning_module.recipe)
        plan = self.library.plan(self.attempts)
        self.library.sweep(plan.todo)
        if plan.todo:
            self.bank.requests.note([task.name for task in self.tasks])
        for name, reason in plan.failed.items():
            say_failed(name, reason)
        return plan

    def _batch(self, leg: Leg) -> MotionBatch | FrameBatch | None:
        with reported(leg, self.outcomes.halve):
            return self.library.batch(leg)
        return None

    def size_on(self, stock: VideoSize) -> VideoSize:
        """The size that was asked for; what was not asked for is that of `stock`."""
        height, width = self.size if self.size is not None else (stock.height, stock.width)
        frames = self.frames if isinstance(self.frames, int) else stock.frames
        return VideoSize(frames, height, width)

    @property
    def cache_folder(self) -> str:
        return self.cache if self.cache is not None else beside(self.path, "cache", "--data.cache")

    def video_of(self, name: str) -> Path:
        """Path of a clip's video, for runs that denoise to the end."""
        return self.video_folder / f"{name}.mp4"

    @property
    def video_folder(self) -> Path:
        return Path(self.out if self.out is not None else beside(self.path, "videos", "--out"))

    def _read_tasks(self) -> list[MotionTask]:
        defaults: Any = dict(negative_prompt=self.negative_prompt, seed=self.seed, fps=self.fps)
        clips = self.manifest, self.videos, self.prompt, self.caption
        tasks = tasks_of(*clips, image=self.image, **defaults)
        module = self.trainer.lightning_module
        return check_images(tasks, module.name) if module.reads_images else tasks

    def _read_generations(self) -> list[Generation]:
        chosen: Any = dict(entries=self.entries, seeds=self.seeds, image=self.image)
        chosen |= dict(negative_prompt=self.negative_prompt, folder=self.video_folder)
        asked = generations_of(self.bank, self.prompts, **chosen)
        module = self.trainer.lightning_module
        return check_images(asked, module.name) if module.reads_images else asked
