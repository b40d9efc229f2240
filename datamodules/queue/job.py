"""Job: what the processes of one run have to do with each other. One plan at the start; leases from
then on, and who stays to the end.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ditflow.bank import MotionBank
from ditflow.bank.leases import Leases

T = TypeVar("T")
PAUSE = 1.0  # seconds between two looks at what others hold


class Job:
    """This process's part in a run of a Trainer."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self._open, self._waits = trainer, ExitStack(), False

    def agreed(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, for all. What it raises ends them all, and it alone says so."""
        made, error = None, None
        if self.trainer.is_global_zero:
            try:
                made = make()
            except Exception as raised:
                error = raised
        try:
            made, is_made = self.trainer.strategy.broadcast((made, error is None))
        except RuntimeError:
            raise ValueError(
                f"rank {self.trainer.global_rank} has nothing to do: rank 0 ended before it had a "
                "plan."
            ) from None
        if error is not None:
            raise error
        return made if is_made else sys.exit(2)  # type: ignore[return-value]

    def leases(self, place: MotionBank | str) -> Leases:
        """Leases in a bank or a folder, kept alive until the job is left."""
        self._leases = Leases(
            place, f"{platform.node()}.rank{self.trainer.global_rank}.{os.getpid()}"
        )
        self._open.enter_context(self._leases.beating())
        return self._leases

    def wait(self) -> bool:
        """Called where all that is left is in the hands of others. Rank 0 waits, for as long as the
        run may last, and true means to look again.
        """
        timers = (
            callback.time_remaining()
            for callback in self.trainer.callbacks
            if isinstance(callback, Timer)
        )
        if not self.trainer.is_global_zero or any(
            left is not None and left <= 0 for left in timers
        ):
            return False
        self.stop_if_told()
        if not self._waits:
            holders = ", ".join(sorted(set(self._leases.holders().values())))
            print(f"Waiting for {holders}: what is left is theirs.", flush=True)
        self._waits = True
        time.sleep(PAUSE)
        return True

    def stop_if_told(self) -> None:
        """Lightning looks for SIGTERM after each step; encoding many clips comes before the first,
        and waiting after the last.
        """
        if self.trainer.received_sigterm:
            raise SIGTERMException

    def leave(self) -> None:
        """Give all leases back."""
        self._open.close()
