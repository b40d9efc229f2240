"""The order of work: one item for each denoising step of each batch of clips, batch after batch as
they are claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Leg:
    """A batch of clips, by name, and the denoising step at which it goes on. `record` is its
    in-flight record, where it has one.
    """

    names: tuple[str, ...]
    step: int = 0
    record: str | None = None


class Trajectory:
    """Iterates over (batch, step). A batch is made when its leg comes up, and left as soon as its
    leg goes on no more.

    Its length is no less than the number of items: how many there will be depends on what other
    processes do.
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
        self.legs, self._make, self.steps, self._goes_on, self._length = (
            legs,
            make,
            steps,
            goes_on,
            length,
        )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        for leg in self.legs:
            batch = self._make(leg)
            for step in range(leg.step, self.steps):
                if not self._goes_on(leg):
                    break
                yield batch, step


def turns(items: Sequence[T], rank: int, world_size: int, together: int = 1) -> list[T]:
    """All items in the order of one of so many ranks: its own share, then those of the others from
    their ends, where these will come last.

    Shares are dealt out in runs of items that are wanted `together`.
    """
    dealt = [(index // together) % world_size for index in range(len(items))]
    own = [item for item, owner in zip(items, dealt, strict=True) if owner == rank]
    return own + [item for item, owner in zip(items, dealt, strict=True) if owner != rank][::-1]


def share(items: Sequence[T], rank: int, world_size: int, together: int = 1) -> list[T]:
    """The first of these turns: what is this rank's own."""
    return turns(items, rank, world_size, together)[
        : sum((index // together) % world_size == rank for index in range(len(items)))
    ]
