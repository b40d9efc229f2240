"""`ditflow fit`: take the motion of clips into a bank."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from trainers.commands.methods import MethodName
from trainers.commands.motion_cli import GIVEN, MotionCLI
from trainers.commands.short_help import OWN
from trainers.progress.summary import print_summary


class Fit(MotionCLI):
    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"fit": GIVEN | {"train_dataloaders", "val_dataloaders"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--method", type=MethodName, default="optimise", help=OWN["method"])

    def fit(self, **arguments: Any) -> None:
        if self.is_dry_run:
            self.code = self.method.plan(*self.parts)
            return
        began = time.monotonic()
        self.trainer.fit(**arguments)
        todo = self.datamodule.queue.plan.todo
        print_summary(self.datamodule.library, todo, time.monotonic() - began)
