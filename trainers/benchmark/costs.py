"""The cost of each video, written by the `fit` or `predict` that makes it, just before the video.

Seconds run from reading the reference's motion (`fit`) or the prompt (`predict`) to the decoded
video. They leave out what the videos of a clip share: its latents, the embeddings of prompts that
`fit` keeps, and an optimised entry that `predict` injects. The seconds of a field are counted with
each of its videos.
"""

# K inner steps, B batch, G guided steps
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer

from datamodules.queue.generation_queue import Generation
from ditflow.bank import EntryMetadata
from ditflow.files import make_folder, write_json
from trainers.benchmark.machine import forget_peak_memory, machine, peak_memory
from trainers.motion.dry_run.costs import schedule_of
from trainers.motion.optimization import MotionOptimization
from trainers.motion.videos import Video
from trainers.motion.work import Work


class CostWriter(Callback):
    """Writes `<folder>/<video>.json`.

    It holds the seconds (of a batch, an equal share), the peak memory of the process during the
    batch, the work in forwards of the whole transformer for one sample, the loss before each update
    by guided step, and the machine. For a clip that fails it holds the reason.

    Args:
        folder: Folder of the files.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._began = 0.0

    def setup(self, trainer: Trainer, module: MotionOptimization, stage: str) -> None:
        make_folder(self.folder)
        forget_peak_memory()

    def on_train_batch_end(
        self, trainer: Trainer, module: MotionOptimization, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not outputs or outputs["work"].state.step < module.iterations:
            return
        work: Work = outputs["work"]
        names, recipe = work.batch.leg.names, module.recipe
        forwards = recipe.guidance.forward_equivalents(recipe.schedule, module.backbone.spec)
        curves = (
            torch.stack(work.state.losses, dim=-1).permute(1, 2, 0).tolist()
            if work.state.losses
            else [[] for _ in names]
        )  # (K, B, G) -> (B, G, K)
        for name, losses in zip(names, curves, strict=True):
            self._write(
                name,
                seconds=work.seconds / len(names),
                forward_equivalents=forwards,
                losses=losses,
                machine=machine(len(names)),
            )
        forget_peak_memory()

    def on_predict_batch_start(self, trainer: Trainer, module: MotionOptimization, *_: Any) -> None:
        self._began = time.monotonic()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        module: MotionOptimization,
        outputs: list[tuple[Generation, Video]],
        *_: Any,
    ) -> None:
        if outputs and module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        seconds = time.monotonic() - self._began
        for generation, _video in outputs:
            metadata = trainer.datamodule.bank.metadata(generation.entry)
            schedule = schedule_of(metadata, module.backbone, module.choices)
            of_entry = 0.0 if isinstance(metadata, EntryMetadata) else metadata.seconds
            self._write(
                generation.file.stem,
                seconds=seconds / len(outputs) + of_entry,
                forward_equivalents=float(module.backbone.spec.passes_of(schedule)),
                losses=[],
                machine=machine(len(outputs)),
            )
        if outputs:
            forget_peak_memory()

    def teardown(self, trainer: Trainer, module: MotionOptimization, stage: str) -> None:
        for name, reason in trainer.datamodule.failed.items():
            write_json(self.folder / f"{name}.json", {"error": reason})

    def _write(self, name: str, **cost: Any) -> None:
        write_json(
            self.folder / f"{name}.json", cost | {"peak_memory_bytes": peak_memory(), "error": None}
        )
