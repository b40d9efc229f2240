"""`ditflow predict`: make videos from the motions of a bank and new prompts."""

from __future__ import annotations

import signal
import sys
from typing import Any

from trainers.commands.motion_cli import GIVEN, MotionCLI
from trainers.motion.plan import plan_predict


class Predict(MotionCLI):
    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"predict": GIVEN | {"dataloaders", "return_predictions", "ckpt_path"}}

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
