"""GenerationQueue: the videos that one process makes, in batches.

A video is leased while it is made, in a folder beside the videos, so that processes share videos
as they share clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from datamodules.faults import NO_MEMORY, one_line, say_failed, say_halved
from ditflow.bank.leases import Leases


@dataclass(frozen=True)
class Generation:
    """One video to be made from an entry. `negative_prompt` None is the entry's own. `image` is the
    file of the picture that it begins with, or empty.
    """

    entry: str
    prompt: str
    negative_prompt: str | None
    seed: int
    file: Path
    image: str = ""

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def key(self) -> str:
        """The name of its lease."""
        return hashlib.sha256(self.file.name.encode()).hexdigest()[:32]


Batch = tuple[Generation, ...]
"""Generations that are made together."""


class GenerationQueue:
    """Iterates over batches of generations whose file is not there yet, each tried once by this
    process, and in halves where its batch fails.

    Args:
        alike: What generations of one batch have in common.
        batch_size: Generations of a batch, at most.
        pause: Called when other processes hold all that is left: true means to look again, false to
            end.
    """

    def __init__(
        self,
        generations: Sequence[Generation],
        leases: Leases,
        alike: Callable[[Generation], Hashable],
        batch_size: int,
        pause: Callable[[], bool],
    ) -> None:
        self.total = len(generations)
        self.left = dict.fromkeys(generations)
        self.failed: dict[str, str] = {}  # video: reason
        self._leases, self._alike, self._pause = leases, cache(alike), pause  # it reads the entry
        self._batch_size, self._halves = batch_size, list[Batch]()

    def __len__(self) -> int:
        """Batches at most, with those that are tried again in halves."""
        return 2 * self.total

    def __iter__(self) -> Iterator[Batch]:
        while self.left:
            if batch := self._halves.pop(0) if self._halves else self._fresh():
                yield batch
                self._settle(batch)
            elif self.left and not self._pause():
                return

    def fail(self, generation: Generation, error: Exception) -> None:
        """Record and report a video that cannot be made. The others continue."""
        self.failed[generation.name] = reason = one_line(error)
        say_failed(generation.name, reason)

    def halve(self, batch: Batch, error: Exception) -> None:
        """A batch that failed is tried again in halves, by this process, and no later one is larger
        where memory was short. A single video fails.
        """
        if len(batch) == 1:
            return self.fail(batch[0], error)
        say_halved([generation.name for generation in batch], error)
        middle = (len(batch) + 1) // 2
        self._halves[:0] = [batch[:middle], batch[middle:]]
        if isinstance(error, NO_MEMORY):
            self._batch_size = min(self._batch_size, middle)

    def _fresh(self) -> Batch:
        """Generations that are alike, leased by this process."""
        taken: list[Generation] = []
        for generation in list(self.left):
            if len(taken) == self._batch_size:
                break
            fits = not taken or self._alike(generation) == self._alike(taken[0])
            if fits and self._take(generation):
                taken.append(generation)
        return tuple(taken)

    def _take(self, generation: Generation) -> bool:
        """Lease a generation. Looks for its file again once it has the lease: the holder before may
        have been done.
        """
        is_there = generation.file.exists()
        if not is_there and not self._leases.acquire(generation.key):
            return False
        if is_there or generation.file.exists():
            self._settle([generation])
            return False
        return True

    def _settle(self, batch: Sequence[Generation]) -> None:
        again = {generation for half in self._halves for generation in half}
        for generation in batch:
            if generation not in again:
                self._leases.release(generation.key)
                self.left.pop(generation, None)
