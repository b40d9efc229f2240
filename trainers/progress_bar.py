"""The bar of `fit` and `predict`. That of `fit` shows the whole library, whoever works on it: every rank, and every other job on the same bank."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from datamodules.generations import Generation
from trainers.motion_optimization import MotionOptimization
from trainers.progress import Progress, Watcher
from trainers.progress_view import words

EVERY, SHARE = 2.0, 0.01  # seconds between two looks at the bank; looks take no larger part of the time


class LibraryBar(TQDMProgressBar):
    """Counts clips, not steps; a batch in flight counts by its steps. Beside it stands what this rank is at."""

    def __init__(self) -> None:
        super().__init__()
        self._due = 0.0

    def init_train_tqdm(self) -> Tqdm:
        return Tqdm(file=sys.stdout, disable=self.is_disabled, leave=True, dynamic_ncols=True, bar_format="{percentage:3.0f}%|{bar:20}| {desc}{postfix}")

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self._watcher = Watcher(trainer.datamodule.bank, [task.name for task in trainer.datamodule.tasks])
        self._look()

    def on_train_batch_end(self, trainer: Trainer, module: MotionOptimization, *_: Any) -> None:
        if self.is_enabled and time.monotonic() >= self._due:
            self.train_progress_bar.set_postfix_str(_at(module), refresh=False)
            self._look()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.train_progress_bar.set_postfix_str("", refresh=False)
        self._look()

    def on_predict_batch_start(self, trainer: Trainer, module: MotionOptimization, batch: Generation, *_: Any, **__: Any) -> None:
        super().on_predict_batch_start(trainer, module, batch, *_, **__)
        self.predict_progress_bar.set_description(f"{batch.entry}: {batch.prompt}"[:60])

    def _look(self) -> None:
        if self.is_disabled:
            return
        began = time.monotonic()
        progress = self._watcher.look()
        self._due = time.monotonic() + max(EVERY, (time.monotonic() - began) / SHARE)
        _draw(self.train_progress_bar, progress)


def _draw(bar: Tqdm, progress: Progress) -> None:
    bar.total, bar.n = max(len(progress.asked), 1), len(progress.asked) - progress.work_left
    bar.set_description_str(words(progress))


def _at(module: MotionOptimization) -> str:
    """The clip that this rank is at, its step and its loss."""
    if module.work is None:
        return ""
    names, state = module.work.batch.leg.names, module.work.state
    clip = names[0] if len(names) == 1 else f"{names[0]}+{len(names) - 1}"
    loss = f" loss {state.losses[-1][-1].mean():.4g}" if state.losses else ""
    return f"{clip} {state.step}/{module.iterations}{loss}"
