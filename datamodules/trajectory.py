"""The order of work: one item for each denoising iteration that is left, batch after batch of clips."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Leg:
    """A batch of clips, by name, and the denoising step at which it goes on. `record` is its in-flight record, where it has one."""

    names: tuple[str, ...]
    step: int = 0
    record: str | None = None


class Trajectory:
    """Iterates over (batch, step) for the legs given: a batch is made once, when its first step is asked for. Its length is the number of steps left."""

    def __init__(self, legs: Sequence[Leg], make: Callable[[Leg], Any], steps: int) -> None:
        self.legs, self._make, self.steps = tuple(legs), make, steps

    def __len__(self) -> int:
        return sum(self.steps - leg.step for leg in self.legs)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        for leg in self.legs:
            batch = self._make(leg)
            for step in range(leg.step, self.steps):
                yield batch, step


def legs_of(todo: Sequence[str], records: dict[str, tuple[tuple[str, ...], int]], batch_size: int, alone: Collection[str] = ()) -> list[Leg]:
    """Batches that were begun go on as they were composed, the furthest first; the rest is cut into batches. Names in `alone` get a batch each.

    `records` maps an in-flight record to its clips and its next step. A record is left aside when one of its clips is in a batch that went further,
    is to run alone, or when all of its clips are finished.
    """
    legs: list[Leg] = []
    taken: set[str] = set()
    for record, (names, step) in sorted(records.items(), key=lambda item: (-item[1][1], item[0])):
        if set(names) & set(todo) and not taken.intersection(names) and (len(names) == 1 or not set(names) & set(alone)):
            legs.append(Leg(names, step, record))
            taken |= set(names)
    rest = [name for name in todo if name not in taken]
    together = [name for name in rest if name not in alone]
    legs += [Leg(tuple(together[i : i + batch_size])) for i in range(0, len(together), batch_size)]
    return legs + [Leg((name,)) for name in rest if name in alone]
