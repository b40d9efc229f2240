"""`ditflow fit`: take the motion of clips into a bank."""

from __future__ import annotations

import time
from typing import Any

from trainers.commands.motion_cli import GIVEN, MotionCLI
from trainers.motion.plan import plan_fit
from trainers.progress.summary import print_summary


class Fit(MotionCLI):
    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"fit": GIVEN | {"train_dataloaders", "val_dataloaders"}}

    def fit(self, **arguments: Any) -> None:
        if self.is_dry_run:
            self.code = plan_fit(*self.parts)
            return
        began = time.monotonic()
        self.trainer.fit(**arguments)
        todo = self.datamodule.queue.plan.todo
        print_summary(self.datamodule.library, todo, time.monotonic() - began)
