"""`independent`: one process for each device, on one machine or many, and nothing between them but
the bank.

A process group lives for as long as rank 0's plan is handed out. In the loop of `fit` and `predict`
there is none: no rank waits for another, none dies with another, and uneven shares are no matter.
`test` and `validate` keep the group, to gather metrics.
"""

from __future__ import annotations

import datetime
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.distributed import _init_dist_connection
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.states import TrainerFn

from trainers.motion import cores
from trainers.motion.checkpoints import RecordIO

RENDEZVOUS = datetime.timedelta(
    hours=1
)  # for all to come, and then for the plan of a large library
GRACE = 10.0  # seconds for this process to say by itself why another one could not begin


class Launcher(_SubprocessScriptLauncher):
    """Lightning's, but that a child that ends early does not kill the others: what it held is taken
    over, and in the end it is told.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.begun = threading.Event()

    def launch(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        trainer: Trainer | None = None,
        **options: Any,
    ) -> Any:
        self.cluster_environment.validate_settings(
            num_devices=self.num_processes, num_nodes=self.num_nodes
        )
        if (
            self.num_processes * self.num_nodes > 1
            and not self.cluster_environment.creates_processes_externally
        ):
            self._call_children_scripts()
            threading.Thread(target=self._guard, daemon=True).start()
        cores.divide(self.num_processes)
        return function(*arguments, **options)

    def wait(self) -> dict[int, int]:
        """Wait for the other processes of this machine. Local rank and exit code of each that did
        not end well.
        """
        self.begun.set()
        return {
            rank: process.returncode
            for rank, process in enumerate(self.procs, start=1)
            if process.wait()
        }

    def _guard(self) -> None:
        """Until all have met: whoever waits for a process that is gone would wait for ever."""
        while not self.begun.wait(1):
            lost = [
                (rank, process.returncode)
                for rank, process in enumerate(self.procs, start=1)
                if process.poll()
            ]
            if lost and not self.begun.wait(GRACE):
                print(
                    f"ditflow: rank {lost[0][0]} ended before the work began, with exit code "
                    f"{lost[0][1]}.",
                    file=sys.stderr,
                    flush=True,
                )
                self.kill(15)
                os._exit(1)


def check_precision(trainer: Trainer) -> None:
    """Raise ValueError for a precision that the Trainer would cast the module to."""
    if trainer.precision != "32-true":
        raise ValueError(
            f"--trainer.precision {trainer.precision} would round what is optimised, whose updates "
            "are too small for 16 bits: leave it out, and choose the backbone's number format by "
            "--model.dtype bfloat16."
        )


def check_strategy(trainer: Trainer) -> None:
    """Raise ValueError for several processes that would do more together than share the bank."""
    if trainer.world_size > 1 and not isinstance(trainer.strategy, IndependentStrategy):
        raise ValueError(
            "clips are independent of each other: leave --trainer.strategy out, whose default "
            "shares them out over devices and nodes."
        )


class IndependentStrategy(DDPStrategy):
    strategy_name = "independent"

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"checkpoint_io": RecordIO(), **options})
        self.lost: dict[
            int, int
            # local rank and exit code of each other process of this machine that did not end well
        ] = {}

    def _configure_launcher(self) -> None:
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_distributed(self) -> None:
        """Meet the others; gloo will do where nothing but the plan is handed out."""
        reset_seed()
        self.set_world_ranks()
        backend = "gloo" if self._is_alone else self._get_process_group_backend()
        if self.world_size > 1:
            _init_dist_connection(self.cluster_environment, backend, timeout=RENDEZVOUS)

    def setup(self, trainer: Trainer) -> None:
        """As Lightning's, without wrapping or sharing a module that has no weights. Here the ways
        of the ranks part: the plan is known by now.
        """
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()
        if self._is_alone and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        self._launcher.begun.set()

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        return (
            super().reduce_boolean_decision(decision, all)
            if torch.distributed.is_initialized()
            else decision
        )

    def on_exception(self, exception: BaseException) -> None:
        """The others of this machine stop too, each after its step."""
        super().on_exception(exception)
        self._launcher.kill(15)

    def teardown(self) -> None:
        super().teardown()
        self.lost = self._launcher.wait()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Each rank its own batch, in a folder of its own beside rank 0's."""
        self.checkpoint_io.save_checkpoint(checkpoint, self._own(filepath), storage_options)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """A rank that has none, because there were fewer then, begins without a batch."""
        if (own := self._own(checkpoint_path)).exists() or self.is_global_zero:
            return self.checkpoint_io.load_checkpoint(own)
        return self.checkpoint_io.load_checkpoint(checkpoint_path) | {"tensors": {}}

    def remove_checkpoint(self, filepath: Any) -> None:
        self.checkpoint_io.remove_checkpoint(self._own(filepath))

    @property
    def _is_alone(self) -> bool:
        module: LightningModule | None = self.lightning_module
        return module is not None and module.trainer.state.fn in (
            TrainerFn.FITTING,
            TrainerFn.PREDICTING,
        )

    def _own(self, path: Any) -> Path:
        path = Path(path)
        return path.parent / f"rank{self.global_rank}" / path.name if self.global_rank else path

    @classmethod
    def register_strategies(cls, strategy_registry: Any) -> None:
        strategy_registry.register(
            cls.strategy_name,
            cls,
            description="clips or videos shared out over devices; nothing is reduced",
        )


IndependentStrategy.register_strategies(StrategyRegistry)
