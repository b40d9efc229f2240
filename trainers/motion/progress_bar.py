"""The progress bar of `fit` and `predict`. During `fit` it shows the whole library: the work of
every rank, and of every other job on the same bank. During `predict` it counts videos.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from datamodules.queue.generation_queue import Batch
from ditflow.bank import BankError
from trainers.motion.instant import InstantMotion
from trainers.motion.optimization import MotionOptimization
from trainers.progress.progress import Progress, Watcher
from trainers.progress.view import words

EVERY, SHARE = 2.0, 0.01
"""Seconds between two looks at the bank, and the largest part of the time that looks may take."""


class LibraryBar(TQDMProgressBar):
    """Counts clips. A batch in flight counts in part, by its steps. Beside the bar stands
    what this rank is at.

    A thread draws it, because a step may take minutes and rank 0 may only wait for the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stopped, self._artist = threading.Event(), threading.Thread()

    def init_train_tqdm(self) -> Tqdm:
        return Tqdm(
            file=sys.stdout,
            disable=self.is_disabled,
            leave=True,
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}%|{bar:20}| {desc}{postfix}",
        )

    def on_train_epoch_start(
        self, trainer: Trainer, module: MotionOptimization | InstantMotion
    ) -> None:
        if self.is_enabled:
            library = trainer.datamodule.library
            watcher = Watcher(library.bank, library.tasks, library.done)
            self._stopped.clear()
            self._artist = threading.Thread(
                target=self._keep_drawing, args=(watcher, module), name="progress", daemon=True
            )
            self._artist.start()

    def on_train_batch_end(self, *_: Any) -> None:
        """The thread sees it."""

    def on_train_epoch_end(self, *_: Any) -> None:
        self._stop()

    def on_exception(self, *_: Any) -> None:
        self._stop()

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        module: MotionOptimization | InstantMotion,
        batch: Batch,
        *_: Any,
        **__: Any,
    ) -> None:
        bar, queue, first = self.predict_progress_bar, trainer.datamodule.queue, batch[0]
        bar.total, bar.n = queue.total, queue.total - len(queue.left)
        others = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
        bar.set_description(f"{first.entry}: {first.prompt}"[:60] + others)

    def on_predict_batch_end(self, *_: Any) -> None:
        """The next batch tells what is left, and the end that nothing is."""

    def on_predict_end(self, trainer: Trainer, module: MotionOptimization | InstantMotion) -> None:
        bar, queue = self.predict_progress_bar, trainer.datamodule.queue
        bar.n = queue.total - len(queue.left)
        bar.refresh()
        super().on_predict_end(trainer, module)

    def _keep_drawing(self, watcher: Watcher, module: MotionOptimization | InstantMotion) -> None:
        """Draw until the bar is stopped, and once more then. Try again where the bank cannot be
        read.
        """
        last = False
        while not last:
            last, began = self._stopped.is_set(), time.monotonic()
            with suppress(BankError):
                _draw(self.train_progress_bar, watcher.look(), "" if last else module.at)
            self._stopped.wait(max(EVERY, (time.monotonic() - began) / SHARE))

    def _stop(self) -> None:
        self._stopped.set()
        if self._artist.is_alive():
            self._artist.join()


def _draw(bar: Tqdm, progress: Progress, beside: str) -> None:
    bar.total, bar.n = max(len(progress.asked), 1), len(progress.asked) - progress.work_left
    bar.set_postfix_str(beside, refresh=False)
    bar.set_description_str(words(progress))
