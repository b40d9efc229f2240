"""What there is to do: clips whose motion a bank still lacks (fit), or videos still to be made from a bank's motions (predict).

The bank says what is finished, so a run that was stopped goes on when it is started again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from datamodules import records
from datamodules.clips import Clips, MotionBatch
from datamodules.generations import Generation, generations_of
from datamodules.manifest import MotionTask, read_manifest, tasks_of_videos
from datamodules.references import References
from datamodules.trajectory import Leg, Trajectory
from ditflow.bank import BankEntry, MotionBank
from ditflow.bank.folders import LocalFolder, open_folder
from ditflow.grid import VideoSize


class MotionTaskModule(L.LightningDataModule):
    """Clips or prompts, and the bank that they go with.

    Args:
        bank: Folder or URL of the motion bank; `fit` makes it where it is missing.
        out: Folder for videos; by default `videos` in the bank.
        manifest: CSV or JSONL file of the clips, with columns video, prompt, and optionally name, negative_prompt, start, stride, seed, tags (split by ';'),
            and for signals that read words caption, subject, caption_subject.
        videos: Pattern such as 'clips/*.mp4', instead of a manifest.
        prompt: What the optimised video shows, for all clips of `videos`.
        caption: What the clips of `videos` show, for signals that read words.
        negative_prompt: What it should not show, where the manifest does not say; by default as recommended, and for `predict` the entry's own.
        frames: Frames taken of each clip; by default as many as the backbone was trained for.
        size: Height and width in pixels that frames are resized to; by default the backbone's.
        seed: For clips without one in the manifest.
        batch_size: Clips optimised together; results do not depend on it, memory does.
        cache: Folder for encoded clips and prompts; by default `cache` in the bank.
        entries: Entries to make videos from; by default all of the bank.
        prompts: Text file with a prompt on each line, for all entries; or CSV or JSONL file with entry, prompt and optionally seed and name (of the video).
        seeds: Each prompt is done with each of these.
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
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        seed: int = 0,
        batch_size: int = 1,
        cache: str | None = None,
        entries: list[str] | None = None,
        prompts: str | None = None,
        seeds: list[int] = [0],  # noqa: B006  shown by --help and never changed
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but at least one clip is optimised at a time.")
        self.path, self.out, self.cache = bank, out, cache
        self.manifest, self.videos, self.prompt, self.caption, self.negative_prompt = manifest, videos, prompt, caption, negative_prompt
        self.frames, self.size, self.seed, self.batch_size = frames, size, seed, batch_size
        self.entries, self.prompts, self.seeds = entries, prompts, seeds
        self.tasks: list[MotionTask] = []
        self.generations: list[Generation] = []
        self.failed: dict[str, str] = {}  # clip or video: reason
        self.finished: set[str] = set()
        self.alone: set[str] = set()  # clips to try again in a batch of their own

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.tasks = self._read_tasks()
            self.bank = MotionBank(self.path, create=True)
        else:
            self.bank = MotionBank(self.path)
            self.generations = generations_of(
                self.bank, self.prompts, entries=self.entries, negative_prompt=self.negative_prompt, seeds=self.seeds, folder=self.video_folder
            )

    def train_dataloader(self) -> Trajectory:
        """The iterations that are left: one plan, made by rank 0, its legs dealt out to all ranks."""
        trainer, module = self.trainer, self.trainer.lightning_module
        video_of = self.video_of if module.finish else None
        self.clips = Clips(self.tasks, self.bank, module.method, self.references(), video_of, keep_reference=module.keep_reference)
        legs = trainer.strategy.broadcast(self._plan() if trainer.is_global_zero else None)
        return Trajectory(legs[trainer.global_rank :: trainer.world_size], self.clips.batch, module.iterations)

    def predict_dataloader(self) -> DataLoader[Generation]:
        """The videos that do not exist yet."""
        left: Any = [generation for generation in self.generations if not generation.file.exists()]
        if (kept := len(self.generations) - len(left)) and self.trainer.is_global_zero:
            print(f"{kept} existing {'file' if kept == 1 else 'files'} kept", flush=True)
        return DataLoader(left, batch_size=None)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """A batch stays the same for many steps: whoever works on it moves it once, when its first step comes."""
        return batch

    def publish(self, name: str, entry: BankEntry) -> None:
        """Put a clip's entry into the bank, unless an earlier run that was stopped here has done so."""
        if name not in self.bank:
            self.bank.put(name, entry)
        self.finished.add(name)

    def fail(self, name: str, error: Exception) -> None:
        """Report a clip or a video that cannot be done, so that the others can go on."""
        self.failed[name] = " ".join(str(error).split()) or type(error).__name__
        print(f"\n{name!r} failed: {self.failed[name]}", file=sys.stderr, flush=True)
        if self.tasks and name not in self.bank:
            self.bank.mark_failed(name, self.failed[name])

    def give_up(self, batch: MotionBatch, error: Exception) -> None:
        """A clip that fails by itself is reported. Clips that fail together start again, each by itself, when the others are done."""
        names = batch.leg.names
        records.drop(self.bank, records.key_of(names, batch.settings))
        if len(names) == 1:
            return self.fail(names[0], error)
        print(f"\n{', '.join(names)} failed together and will be tried one by one: {error}", flush=True)
        self.alone.update(names)

    @property
    def to_retry(self) -> bool:
        return any(name not in self.finished and name not in self.failed for name in self.alone)

    def outcome(self) -> tuple[list[str], set[str]]:
        """The names of all clips or videos asked for, and those that are done."""
        if self.tasks:
            return [task.name for task in self.tasks], self.finished
        files = [generation.file for generation in self.generations]
        return [file.stem for file in files], {file.stem for file in files if file.exists()}

    def _plan(self) -> list[Leg]:
        print(self.trainer.lightning_module.method)
        self.bank.asked.note([task.name for task in self.tasks])
        legs = self.clips.plan(self.batch_size, self.fail, failed=self.failed, alone=self.alone, between=self._stop_if_told)
        open_ = {name for leg in legs for name in leg.names}
        self.finished = {task.name for task in self.tasks if task.name not in self.failed and task.name not in open_}
        return legs

    def references(self) -> References:
        """The encoder of clips and prompts, at the size asked for."""
        backbone = self.trainer.lightning_module.backbone
        height, width = self.size if self.size is not None else (backbone.spec.size.height, backbone.spec.size.width)
        size = VideoSize(self.frames if self.frames is not None else backbone.spec.size.frames, height, width)
        backbone.spec.compression.latent_shape(size)  # refuses a size that does not divide into tokens
        return References(self.cache if self.cache is not None else self._beside("cache", "--data.cache"), backbone, size)

    def video_of(self, name: str) -> Path:
        """The video of a clip that is finished, not only guided."""
        return self.video_folder / f"{name}.mp4"

    @property
    def video_folder(self) -> Path:
        return Path(self.out if self.out is not None else self._beside("videos", "--out"))

    def _beside(self, name: str, option: str) -> str:
        folder = open_folder(self.path)
        if not isinstance(folder, LocalFolder):
            raise ValueError(f"the bank {self.path} is not a local folder: name one for its {name} with {option}.")
        return str(folder.root / name)

    def _stop_if_told(self) -> None:
        """Lightning looks for SIGTERM after each iteration; encoding many clips comes before the first."""
        if self.trainer.received_sigterm:
            raise SIGTERMException

    def _read_tasks(self) -> list[MotionTask]:
        if (self.manifest is None) == (self.videos is None):
            raise ValueError("name the clips either by --data.manifest clips.csv or by --data.videos 'clips/*.mp4'.")
        defaults: Any = {"negative_prompt": self.negative_prompt, "seed": self.seed}
        if self.manifest is not None:
            return read_manifest(self.manifest, **defaults)
        return tasks_of_videos(str(self.videos), self.prompt, caption=self.caption, **defaults)
