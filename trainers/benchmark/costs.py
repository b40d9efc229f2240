"""What each video of `fit` or `predict` costs, written by the process that makes it, just before
the video.

Seconds are those from looking at the reference (`fit`) or reading the prompt (`predict`) to the
decoded video. What a clip's videos have in common, its latents and the embeddings of prompts that
`fit` keeps, is not counted.
"""

# K inner steps, B batch, G guided steps
from __future__ import annotations

import platform
import re
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from datamodules.generations import Generation
from ditflow.files import make_folder, write_json
from trainers.motion.optimization import MotionOptimization, Work


class CostWriter(Callback):
    """Writes `<folder>/<video>.json`: seconds of its own (those of a batch are shared out), the
    most memory of the process while it made the batch, work in forwards of the whole transformer
    for one sample, losses before each update by guided step, and where all this was measured. Of a
    clip that fails, the reason.

    Args:
        folder: Where to.
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
        names, method = work.batch.leg.names, module.method
        forwards = method.guidance.forward_equivalents(method.schedule, module.backbone.spec.blocks)
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
        outputs: Tensor | None,
        batch: Generation,
        *_: Any,
    ) -> None:
        if outputs is not None:
            if module.device.type == "cuda":
                torch.cuda.synchronize(module.device)
            steps = module.choices.steps or trainer.datamodule.bank.metadata(batch.entry).steps
            self._write(
                batch.file.stem,
                seconds=time.monotonic() - self._began,
                forward_equivalents=2.0 * steps,
                losses=[],
                machine=machine(1),
            )
            forget_peak_memory()

    def teardown(self, trainer: Trainer, module: MotionOptimization, stage: str) -> None:
        for name, reason in trainer.datamodule.failed.items():
            write_json(self.folder / f"{name}.json", {"error": reason})

    def _write(self, name: str, **cost: Any) -> None:
        write_json(
            self.folder / f"{name}.json", cost | {"peak_memory_bytes": peak_memory(), "error": None}
        )


def peak_memory() -> int:
    """The most memory that this process has had since `forget_peak_memory`, in bytes: the GPU's
    where it has used one, else the machine's.

    Linux is asked for this program's own peak: `getrusage` also counts that of the process that
    started it. Other systems do not forget.
    """
    if torch.cuda.is_available() and (peak := torch.cuda.max_memory_allocated()):
        return peak
    with suppress(OSError):
        if own := re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text()):
            return int(own[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def forget_peak_memory() -> None:
    """So that one batch's peak is not the next one's."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def machine(batch_size: int) -> str:
    """What seconds and memory depend on, in words."""
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    else:
        where = f"{processor()}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
    return f"{where}, torch {torch.__version__}, batches of {batch_size}"


def processor() -> str:
    """The processor's name, as the system gives it."""
    with suppress(OSError):
        if named := re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        ):
            return named[1].strip()
    return platform.processor() or platform.machine()
