"""Videos that do not exist yet, one after the other: leased while they are made, in a folder beside
them, so that processes share them as they share clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from datamodules.generations import Generation
from ditflow.bank.leases import Leases


class Pending:
    """Iterates over generations; each is made once by somebody, or tried once here. `pause`: true
    to look again at what others hold, false to end.
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
                key = hashlib.sha256(generation.file.name.encode()).hexdigest()[:32]
                if not generation.file.exists() and not self._leases.acquire(key):
                    continue
                if not generation.file.exists():
                    yield generation
                self._leases.release(key)
                del left[generation]
            if len(left) == before and not self._pause():
                return
