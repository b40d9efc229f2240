"""GenerationQueue: the videos that one process makes, one after the other.

A video is leased while it is made, in a folder beside the videos, so that processes share videos
as they share clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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


class GenerationQueue:
    """Iterates over generations whose file is not there yet, each tried once by this process.

    `pause` is called when other processes hold all that is left: true means to look again, false
    to end.
    """

    def __init__(
        self, generations: Sequence[Generation], leases: Leases, pause: Callable[[], bool]
    ) -> None:
        self._generations, self._leases, self._pause = tuple(generations), leases, pause

    def __len__(self) -> int:
        return len(self._generations)

    def __iter__(self) -> Iterator[Generation]:
        left = dict.fromkeys(self._generations)
        while left:
            before = len(left)
            for generation in list(left):
                if not generation.file.exists() and not self._leases.acquire(generation.key):
                    continue
                if not generation.file.exists():
                    yield generation
                self._leases.release(generation.key)
                del left[generation]
            if len(left) == before and not self._pause():
                return
