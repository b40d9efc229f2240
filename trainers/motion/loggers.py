"""The loss of every clip in the loggers of every rank: Lightning's own logging reaches rank 0 only,
and each rank has clips of its own.

Each other rank opens the same loggers for itself. One that counts its versions in a folder gets
rank 0's version with the rank behind it; one that opens runs on a server opens a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from trainers.motion.optimization import MotionOptimization


class ClipLosses(Callback):
    """Logs `loss/<clip>` after each guided step: the loss before the last update, at the number of
    that denoising step.
    """

    def setup(self, trainer: Trainer, module: MotionOptimization, stage: str) -> None:
        """While the ranks still hear of each other."""
        for logger in trainer.loggers if stage == "fit" and trainer.world_size > 1 else ():
            _make_own(logger, trainer)

    def on_train_batch_end(
        self, trainer: Trainer, module: MotionOptimization, outputs: Any, *_: Any
    ) -> None:
        if not outputs or not trainer.loggers:
            return
        work, window = outputs["work"], module.method.guided
        if window.start < work.state.step <= window.stop:
            losses = dict(
                zip(
                    (f"loss/{name}" for name in work.batch.leg.names),
                    work.state.losses[-1][-1].tolist(),
                    strict=True,
                )
            )
            with _speaking():
                for logger in trainer.loggers:
                    logger.log_metrics(losses, step=work.state.step - 1)

    def on_train_end(self, trainer: Trainer, module: MotionOptimization) -> None:
        self._save(trainer)

    def on_exception(
        self, trainer: Trainer, module: MotionOptimization, exception: BaseException
    ) -> None:
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        with _speaking():
            for logger in trainer.loggers:
                logger.save()


def _make_own(logger: Logger, trainer: Trainer) -> None:
    if isinstance(logger, CSVLogger | TensorBoardLogger):
        version = trainer.strategy.broadcast(logger.version if trainer.is_global_zero else None)
        name = version if isinstance(version, str) else f"version_{version}"
        logger._version = version if trainer.is_global_zero else f"{name}-rank{trainer.global_rank}"


@contextmanager
def _speaking() -> Iterator[None]:
    """Loggers ask whether this is rank 0 before they say anything."""
    rank = getattr(rank_zero_only, "rank", 0)
    rank_zero_only.rank = 0
    try:
        yield
    finally:
        rank_zero_only.rank = rank
