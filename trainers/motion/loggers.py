"""The loss of every clip in the loggers, whichever rank it was optimised on.

Lightning's loggers write on rank 0 alone. It logs its own clips after each guided step, and those
of other ranks once the bank has their entries, which hold the losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning import Callback, Trainer

from ditflow.bank import BankError, EntryMetadata
from trainers.motion.optimization import MotionOptimization
from trainers.motion.work import Work


class ClipLosses(Callback):
    """Logs `loss/<clip>`: the loss before the last update of each guided step, at the number of
    that denoising step.

    A clip that goes on from an earlier run is logged from its first step, so that each run has
    whole curves.
    """

    def __init__(self) -> None:
        self._logged: dict[str, int] = {}  # guided steps of each clip

    def on_train_batch_end(
        self, trainer: Trainer, module: MotionOptimization, outputs: Any, *_: Any
    ) -> None:
        if not outputs or not self._is_wanted(trainer):
            return
        work: Work = outputs["work"]
        first = module.recipe.guided.start
        for index, name in enumerate(work.batch.leg.names):
            curve = [float(losses[-1][index]) for losses in work.state.losses]
            self._log(trainer, name, curve, first)
        if work.state.step == module.iterations:
            self._log_others(trainer)

    def on_train_end(self, trainer: Trainer, module: MotionOptimization) -> None:
        self._finish(trainer)

    def on_exception(
        self, trainer: Trainer, module: MotionOptimization, exception: BaseException
    ) -> None:
        self._finish(trainer)

    def _finish(self, trainer: Trainer) -> None:
        if self._is_wanted(trainer):
            self._log_others(trainer)
            for logger in trainer.loggers:
                logger.save()

    def _log_others(self, trainer: Trainer) -> None:
        """Log the clips of this run that others have put into the bank."""
        queue = getattr(trainer.datamodule, "queue", None)
        if queue is None:  # the run ended before its clips were shared out
            return
        bank = trainer.datamodule.bank
        for name in sorted(bank.keys() & set(queue.plan.todo) - self._logged.keys()):
            try:
                metadata = bank.metadata(name)
            except BankError:  # damaged or removed since: whoever reads the bank is told
                continue
            if isinstance(metadata, EntryMetadata):
                curve = [losses[-1] for losses in metadata.losses]
                self._log(trainer, name, curve, metadata.window[0])

    def _log(self, trainer: Trainer, name: str, curve: Sequence[float], first: int) -> None:
        known = self._logged.get(name, 0)
        for step, loss in enumerate(curve[known:], start=first + known):
            for logger in trainer.loggers:
                logger.log_metrics({f"loss/{name}": loss}, step=step)
        self._logged[name] = max(known, len(curve))

    @staticmethod
    def _is_wanted(trainer: Trainer) -> bool:
        return trainer.is_global_zero and bool(trainer.loggers)
