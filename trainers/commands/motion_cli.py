"""What `ditflow fit` and `ditflow predict` share: LightningCLI over the module of a method and
MotionTaskModule, and the exit code.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentError
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from datamodules.motion_tasks import MotionTaskModule
from trainers.commands.config_files import with_shipped_configs
from trainers.commands.methods import METHODS, FitMethod, method_of, with_own_options
from trainers.commands.short_help import OWN
from trainers.motion.callbacks import PreviewWriter
from trainers.motion.progress_bar import LibraryBar
from trainers.motion.strategy import IndependentStrategy
from trainers.parser_errors import cause_of, in_one_sentence

__all__ = ["MotionCLI", "PreviewWriter", "run"]  # --trainer.callbacks+=PreviewWriter finds it here

QUIET = (  # warnings that say nothing here
    ".*`LightningModule.configure_optimizers` returned `None`.*",
    ".*does not have many workers.*",
    ".*`training_step` returned `None`.*",
    ".*Total length of `.*` across ranks is zero.*",
    ".*Couldn't infer the batch indices.*",
    ".*predict returned None.*",
    ".*`local_dir_use_symlinks` argument is deprecated.*",
    ".*no pre-optimization state was saved.*",
    ".*LightningCLI's args parameter is intended.*",
)
GIVEN = {"model", "datamodule", "weights_only"}
"""Arguments of the Trainer's methods that are no options, because the command sets them."""
DEFAULTS: dict[str, Any] = {
    "strategy": IndependentStrategy.strategy_name,
    "logger": False,
    "log_every_n_steps": 1,
    "max_epochs": -1,
    "enable_model_summary": False,
}


class MotionCLI(LightningCLI):
    """The options of both commands, which take the same YAML files.

    `code` is the exit code of a dry run, None otherwise.
    """

    code: int | None = None

    def __init__(self, method: FitMethod, words: Sequence[str]) -> None:
        self.method = method
        callbacks = [*(callback() for callback in method.callbacks), LibraryBar()]
        super().__init__(
            method.module,
            MotionTaskModule,
            save_config_callback=None,
            trainer_defaults=DEFAULTS | {"callbacks": callbacks},
            seed_everything_default=False,
            parser_kwargs={"prog": "ditflow", "exit_on_error": False, "allow_abbrev": False},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=list(words),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--bank", type=str, required=True, help=OWN["bank"])
        parser.add_argument("--out", type=str | None, default=None, help=OWN["out"])
        parser.add_argument("--dry_run", action="store_true", help=OWN["dry_run"])
        parser.add_argument("--measure", action="store_true", help=OWN["measure"])
        parser.link_arguments("bank", "data.bank")
        parser.link_arguments("out", "data.out")

    def _parse_ckpt_path(self) -> None:
        """Lightning would unpickle the file for settings; ours has none."""

    def instantiate_classes(self) -> None:
        """Make model, data and trainer. A class refuses an option in its own words."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise ValueError(cause_of(str(error))) from error

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

    @property
    def is_dry_run(self) -> bool:
        return bool(self._get(self.config, "dry_run"))

    @property
    def parts(self) -> tuple[Trainer, Any, MotionTaskModule, bool]:
        """What a plan is made of. The last tells whether to measure."""
        return self.trainer, self.model, self.datamodule, self._get(self.config, "measure")


def run(command: type[MotionCLI], arguments: Sequence[str]) -> int:
    """Run a command, whose name is the first argument, and return the exit code: 1 where clips or
    videos failed or are left, with their names on stderr.
    """
    _check_places(arguments)
    # A rank that is launched again reads its arguments from sys.argv.
    sys.argv[1:] = words = with_shipped_configs(arguments)
    _silence()
    fits = arguments[0] == "fit"
    method = method_of(words) if fits else METHODS["optimise"]
    try:
        cli = command(method, with_own_options(words, method, fits=fits))
    except ArgumentError as error:
        raise ValueError(in_one_sentence(str(error), arguments[0])) from error
    return conclude(cli.datamodule, cli.trainer) if cli.code is None else cli.code


def _check_places(arguments: Sequence[str]) -> None:
    """Raise ValueError for --data.out and --data.bank, which are --out and --bank."""
    for word in arguments:
        if found := re.fullmatch(r"--data\.(out|bank)(=.*)?", word, re.DOTALL):
            raise ValueError(f"--data.{found[1]} is not an option: give --{found[1]} instead.")


def _silence() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.simplefilter("ignore", FutureWarning)
    for message in QUIET:
        warnings.filterwarnings("ignore", message)


def conclude(data: MotionTaskModule, trainer: Trainer) -> int:
    """Print the last lines, and return the exit code. Rank 0 speaks for all ranks.

    Raises ValueError where nothing could be done at all.
    """
    lost = trainer.strategy.lost if isinstance(trainer.strategy, IndependentStrategy) else {}
    for rank, code in lost.items():
        print(
            f"rank {rank} of this machine ended early, with exit code {code}; the others took over "
            "what it had.",
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
