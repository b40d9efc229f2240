"""`ditflow predict`: make videos from the motions of a bank and new prompts."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from trainers.commands.again import again_of
from trainers.commands.methods import FitMethod
from trainers.commands.motion_cli import GIVEN, MotionCLI
from trainers.commands.short_help import OWN
from trainers.motion.dry_run.plan import plan_predict


class Predict(MotionCLI):
    def __init__(self, method: FitMethod, words: Sequence[str]) -> None:
        self.again = again_of(words)
        super().__init__(method, words)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"predict": GIVEN | {"dataloaders", "return_predictions", "ckpt_path"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--again", type=str, default="", help=OWN["again"])
        if self.again is not None:
            parser.set_defaults(self.again.options)

    def before_instantiate_classes(self) -> None:
        super().before_instantiate_classes()
        if self.again is not None:
            self.again.check(lambda option: self._get(self.config, option))
        elif self._get(self.config, "again"):
            raise ValueError("--again FILE belongs on the command line: take it out of the YAML.")

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        if self.again is not None and self.datamodule.negative_prompt is None:
            # not a default of the parser, to which "null" and "#" are None
            self.datamodule.negative_prompt = self.again.made.negative_prompt

    def predict(self, **arguments: Any) -> None:
        if self.is_dry_run:
            self.code = plan_predict(*self.parts)
            return
        # A video takes minutes and leaves nothing half-done, so SIGTERM need not wait for its end.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            self.trainer.predict(**arguments, return_predictions=False)
        finally:
            signal.signal(signal.SIGTERM, before)
