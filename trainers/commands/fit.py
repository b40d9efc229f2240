"""`ditflow fit` and `ditflow predict`: LightningCLI over MotionOptimization and
MotionTaskModule.
"""

from __future__ import annotations

import io
import logging
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from typing import Any

from jsonargparse import ArgumentError
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from datamodules.motion_tasks import MotionTaskModule
from trainers.commands.config_files import in_one_sentence, with_shipped_configs
from trainers.motion.callbacks import BankWriter, PreviewWriter, VideoWriter
from trainers.motion.loggers import ClipLosses
from trainers.motion.optimization import MotionOptimization
from trainers.motion.plan import plan_fit, plan_predict
from trainers.motion.progress_bar import LibraryBar
from trainers.motion.strategy import IndependentStrategy
from trainers.motion.summary import print_summary

__all__ = [
    "PreviewWriter",
    "help_text",
    "run",
]  # PreviewWriter: so that --trainer.callbacks+=PreviewWriter finds it

QUIET = (  # warnings that say nothing here
    ".*`LightningModule.configure_optimizers` returned `None`.*",
    ".*does not have many workers.*",
    ".*`training_step` returned `None`.*",
    ".*Total length of `.*` across ranks is zero.*",
    ".*Couldn't infer the batch indices.*",
    ".*predict returned None.*",
    ".*`local_dir_use_symlinks` argument is deprecated.*",
    ".*no pre-optimization state was saved.*",
)


MEASURE = (
    "With --dry_run: time one block of the backbone on this device, for about a minute at most, "
    "and say how long all of it will take."
)


class MotionCLI(LightningCLI):
    """The two commands take the same YAML. Both know --bank and --out, which go to the data, and
    --dry_run, whose exit code is `code`.
    """

    code: int | None = None

    def __init__(self) -> None:
        super().__init__(
            MotionOptimization,
            MotionTaskModule,
            save_config_callback=None,
            trainer_defaults={
                "callbacks": [VideoWriter(), BankWriter(), ClipLosses(), LibraryBar()],
                "strategy": IndependentStrategy.strategy_name,
                "logger": False,
                "log_every_n_steps": 1,
                "max_epochs": -1,
                "enable_model_summary": False,
            },
            seed_everything_default=False,
            parser_kwargs={"prog": "ditflow", "exit_on_error": False, "allow_abbrev": False},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The two, without what is settled here. A run goes on from its bank; a checkpoint file may
        carry the batch in flight.
        """
        given = {"model", "datamodule", "weights_only"}
        return {
            "fit": given | {"train_dataloaders", "val_dataloaders"},
            "predict": given | {"dataloaders", "return_predictions", "ckpt_path"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--bank",
            type=str,
            required=True,
            help="Folder or URL of the motion bank; `fit` makes it where it is missing.",
        )
        parser.add_argument(
            "--out",
            type=str | None,
            default=None,
            help="Folder for videos; by default `videos` in the bank.",
        )
        parser.add_argument(
            "--dry_run",
            action="store_true",
            help="Print what would be done and what it would cost, and write nothing.",
        )
        parser.add_argument("--measure", action="store_true", help=MEASURE)
        parser.link_arguments("bank", "data.bank")
        parser.link_arguments("out", "data.out")

    def _parse_ckpt_path(self) -> None:
        """Lightning would unpickle the file for settings; ours has none."""

    def before_instantiate_classes(self) -> None:
        if self._get(self.config, "measure") and not self._get(self.config, "dry_run"):
            given = "--measure belongs to --dry_run, which is not given"
            raise ValueError(f"{given}. Add --dry_run, or leave --measure out.")
        if self._get(self.config, "trainer").enable_progress_bar is False:
            self.trainer_defaults["callbacks"] = [
                callback
                for callback in self.trainer_defaults["callbacks"]
                if not isinstance(callback, LibraryBar)
            ]

    def fit(self, **arguments: Any) -> None:
        if self._get(self.config, "dry_run"):
            self.code = plan_fit(*self._parts)
            return
        began = time.monotonic()
        self.trainer.fit(**arguments)
        print_summary(
            self.datamodule.clips, self.datamodule.claims.plan.todo, time.monotonic() - began
        )

    def predict(self, **arguments: Any) -> None:
        if self._get(self.config, "dry_run"):
            self.code = plan_predict(*self._parts)
            return
        before = signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(143)
        )  # a video takes minutes and leaves nothing half-done: no reason to wait for its end
        try:
            self.trainer.predict(**arguments, return_predictions=False)
        finally:
            signal.signal(signal.SIGTERM, before)

    @property
    def _parts(self) -> tuple[Trainer, MotionOptimization, MotionTaskModule, bool]:
        """What a plan is made of; the last says whether to measure."""
        return self.trainer, self.model, self.datamodule, self._get(self.config, "measure")


def run(arguments: Sequence[str]) -> int:
    """Run `fit` or `predict` and return the exit code: 1 where clips or videos failed or are left,
    with their names on stderr.
    """
    sys.argv[1:] = with_shipped_configs(
        arguments
    )  # a rank that is launched again reads its arguments there
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.formatwarning = lambda message, *_: f"ditflow: {message}\n"
    warnings.simplefilter("ignore", FutureWarning)
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
    try:
        cli = MotionCLI()
    except ArgumentError as error:
        raise ValueError(in_one_sentence(str(error), arguments[0])) from error
    return conclude(cli.datamodule, cli.trainer) if cli.code is None else cli.code


def conclude(data: MotionTaskModule, trainer: Trainer) -> int:
    """The last lines, and the exit code that tells the truth: rank 0 speaks for all. Raises
    ValueError where nothing could be done at all.
    """
    lost = trainer.strategy.lost if isinstance(trainer.strategy, IndependentStrategy) else {}
    for rank, code in lost.items():
        print(
            f"rank {rank} of this machine ended early, with exit code {code}; the others took over what it had.",
            file=sys.stderr,
        )
    return 1 if (trainer.is_global_zero and not _is_complete(data)) or lost else 0


def _is_complete(data: MotionTaskModule) -> bool:
    names, done = data.outcome()
    left = [name for name in names if name not in done and name not in data.failed]
    if data.failed and not done and not left:
        raise ValueError(f"nothing could be done: {', '.join(data.failed)} failed.")
    print(f"{len(done)} of {len(names)} done: {data.path if data.tasks else data.video_folder}")
    if data.failed:
        print(f"{len(data.failed)} failed: {', '.join(data.failed)}", file=sys.stderr)
    if left:
        print(f"{len(left)} left: run the same command again.", file=sys.stderr)
    return not data.failed and not left


def help_text(arguments: Sequence[str]) -> str:
    sys.argv[1:] = arguments
    with redirect_stdout(io.StringIO()) as text, suppress(SystemExit):
        MotionCLI()
    return text.getvalue()
