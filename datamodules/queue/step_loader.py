"""StepLoader: one item for each denoising step of each batch of clips, as a Trainer reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from datamodules.queue.work_queue import Leg


class StepLoader:
    """Iterates over (batch, step). A batch is made when its leg comes up, and dropped when
    `goes_on` says that its leg is over.

    `length` is an upper bound: how many items there are depends on what other processes do.
    """

    def __init__(
        self,
        legs: Iterable[Leg],
        make: Callable[[Leg], Any],
        steps: int,
        *,
        goes_on: Callable[[Leg], bool],
        length: int,
    ) -> None:
        self.legs, self.steps = legs, steps
        self._make, self._goes_on, self._length = make, goes_on, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        for leg in self.legs:
            batch = self._make(leg)
            for step in range(leg.step, self.steps):
                if not self._goes_on(leg):
                    break
                yield batch, step
