"""What each video of `fit` or `predict` costs, written by the process that makes it, just before the video."""

# K inner steps, B batch, G guided steps
from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from datamodules.generations import Generation
from ditflow.files import make_folder, write_json
from trainers.motion_optimization import MotionOptimization, Work


class CostWriter(Callback):
    """Writes `<folder>/<video>.json`: seconds of its own (those of a batch are shared out), the most memory of the process that made it, work in forwards
    of the whole transformer for one sample, and losses before each update by guided step. Of a clip that fails, the reason.

    Args:
        folder: Where to.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._began = 0.0

    def setup(self, trainer: Trainer, module: MotionOptimization, stage: str) -> None:
        make_folder(self.folder)

    def on_train_batch_end(self, trainer: Trainer, module: MotionOptimization, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not outputs or outputs["work"].state.step < module.iterations:
            return
        work: Work = outputs["work"]
        names, method = work.batch.leg.names, module.method
        forwards = method.guidance.forward_equivalents(method.schedule, module.backbone.spec.blocks)
        curves = torch.stack(work.state.losses, dim=-1).permute(1, 2, 0).tolist() if work.state.losses else [[] for _ in names]  # (K, B, G) -> (B, G, K)
        for name, losses in zip(names, curves, strict=True):
            self._write(name, seconds=work.seconds / len(names), forward_equivalents=forwards, losses=losses)

    def on_predict_batch_start(self, trainer: Trainer, module: MotionOptimization, *_: Any) -> None:
        self._began = time.monotonic()

    def on_predict_batch_end(self, trainer: Trainer, module: MotionOptimization, outputs: Tensor | None, batch: Generation, *_: Any) -> None:
        if outputs is not None:
            steps = module.choices.steps or trainer.datamodule.bank.metadata(batch.entry).steps
            self._write(batch.file.stem, seconds=time.monotonic() - self._began, forward_equivalents=2.0 * steps, losses=[])

    def teardown(self, trainer: Trainer, module: MotionOptimization, stage: str) -> None:
        for name, reason in trainer.datamodule.failed.items():
            write_json(self.folder / f"{name}.json", {"error": reason})

    def _write(self, name: str, *, seconds: float, forward_equivalents: float, losses: Iterable[Any]) -> None:
        cost = {"seconds": seconds, "peak_memory_bytes": peak_memory(), "forward_equivalents": forward_equivalents, "losses": losses, "error": None}
        write_json(self.folder / f"{name}.json", cost)


def peak_memory() -> int:
    """The most memory that this process has had, in bytes: the GPU's where it has used one, else the machine's.

    Linux is asked for this program's own peak: `getrusage` also counts that of the process that started it.
    """
    if torch.cuda.is_available() and (peak := torch.cuda.max_memory_allocated()):
        return peak
    with suppress(OSError):
        if own := re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text()):
            return int(own[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
