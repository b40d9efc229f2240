"""WorkQueue: which clips a process works on next.

Leases in the bank keep any number of processes, of this run or of others, from working on the same
clips. A process takes its own share first and then what is left of the others' shares, so that a
slow process costs the others nothing. It goes on with what a dead process has begun. Only rank 0
waits for other processes: it stays until every clip is settled, takes over from the dead, and tells
the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from datamodules.queue.inflight import InflightBatch
from ditflow.bank.failures import Failure
from ditflow.bank.leases import Leases

T = TypeVar("T")


@dataclass(frozen=True)
class Leg:
    """A batch of clips, by name, and the denoising step at which it goes on. `record` is the key of
    its saved state, None for a batch that begins.
    """

    names: tuple[str, ...]
    step: int = 0
    record: str | None = None


@dataclass(frozen=True)
class Plan:
    """What rank 0 found to do in the bank.

    Attributes:
        todo: Clips to do, in order.
        attempts: How often each of them has failed before.
        failed: Why other clips will not be tried.
    """

    todo: tuple[str, ...] = ()
    attempts: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


class Clips(Protocol):
    """The state of the clips in the bank, looked up anew with each call."""

    def is_done(self, name: str) -> bool: ...

    def alike(self, name: str) -> Hashable:
        """Clips are worked on together where they have this in common."""

    def failures(self) -> Mapping[str, Failure]: ...

    def begun(self) -> list[InflightBatch]:
        """Batches that were begun with the settings of now, the furthest first."""

    def leg(self, batch: InflightBatch) -> Leg | None:
        """The rest of a begun batch; None if it cannot go on."""


class WorkQueue:
    """Iterates over legs for one process, until nothing is left.

    Args:
        order: The plan's clips in the order in which this process takes them.
        pause: Called when other processes hold all that is left: true means to look again, false to
            end.
    """

    def __init__(
        self,
        clips: Clips,
        leases: Leases,
        plan: Plan,
        order: Sequence[str],
        batch_size: int,
        pause: Callable[[], bool],
    ) -> None:
        self.left = dict.fromkeys(order)  # neither done nor failed, as far as this process knows
        self.failed = dict(plan.failed)  # clip: reason
        self.plan = plan
        self._clips, self._leases, self._pause = clips, leases, pause
        self._batch_size, self._halves = batch_size, list[tuple[str, ...]]()
        self._current: Leg | None = None

    def __iter__(self) -> Iterator[Leg]:
        while self.left:
            self._current = self._next()
            if self._current is not None:
                yield self._current
            elif self.left and not self._pause():
                return

    def goes_on(self, leg: Leg) -> bool:
        return leg is self._current

    def settle(self, names: Sequence[str]) -> None:
        """These are done or have failed: nobody needs to take them any more."""
        for name in names:
            self.left.pop(name, None)
            self._leases.release(name)
        self._current = None

    def has_failed(self, name: str) -> bool:
        """Whether a process has found out in this run that a clip cannot be done."""
        return self._has_failed(name, self._clips.failures())

    def begin_again(self, leg: Leg) -> None:
        """A batch whose record proves to be damaged is begun from nothing, by this process."""
        self._halves.insert(0, leg.names)
        self._current = None

    def halve(self, leg: Leg, *, smaller: bool) -> None:
        """A batch that failed is tried again in halves, by this process; `smaller` says that
        batches to come must not be larger either.
        """
        middle = (len(leg.names) + 1) // 2
        self._halves[:0] = [leg.names[:middle], leg.names[middle:]]
        self._batch_size = min(self._batch_size, middle) if smaller else self._batch_size
        self._current = None

    def _next(self) -> Leg | None:
        if self._halves:
            return Leg(self._halves.pop(0))
        self._see_failures()
        return self._begun() or self._fresh()

    def _begun(self) -> Leg | None:
        for batch in self._clips.begun():
            wanted = [name for name in batch.names if name in self.left]
            if wanted and self._take_all(wanted):
                if (leg := self._clips.leg(batch)) is not None:
                    return leg
                self._give_back(wanted)
        return None

    def _fresh(self) -> Leg | None:
        taken: list[str] = []
        for name in list(self.left):
            if len(taken) == self._batch_size:
                break
            fits = not taken or self._clips.alike(name) == self._clips.alike(taken[0])
            if fits and self._take(name):
                taken.append(name)
        return Leg(tuple(taken)) if taken else None

    def _take_all(self, names: Sequence[str]) -> bool:
        """Lease all of these but for those that prove to be done, or none of them."""
        taken = [name for name in names if self._take(name)]
        if taken and all(name in taken or name not in self.left for name in names):
            return True
        self._give_back(taken)
        return False

    def _take(self, name: str) -> bool:
        """Lease a clip. Looks at the bank again once it has the lease: the holder before may have
        been done.
        """
        if self._is_done(name) or not self._leases.acquire(name):
            return False
        if done := self._is_done(name):
            self._leases.release(name)
        return not done

    def _give_back(self, names: Sequence[str]) -> None:
        for name in names:
            self._leases.release(name)

    def _is_done(self, name: str) -> bool:
        if done := self._clips.is_done(name):
            self.left.pop(name, None)
        return done

    def _see_failures(self) -> None:
        """What has failed since the plan was made, on whatever process, is not tried again by this
        run.
        """
        failures = self._clips.failures()
        for name in [name for name in self.left if self._has_failed(name, failures)]:
            self.failed[name] = failures[name].reason
            del self.left[name]

    def _has_failed(self, name: str, failures: Mapping[str, Failure]) -> bool:
        return name in failures and failures[name].attempts > self.plan.attempts.get(name, 0)


def turns(items: Sequence[T], rank: int, world_size: int, together: int = 1) -> list[T]:
    """All items in the order of one rank: its own share first, then the others' from their ends,
    which the others reach last.

    Shares are dealt in runs of items that are wanted `together`.
    """
    dealt = [(index // together) % world_size for index in range(len(items))]
    own = [item for item, owner in zip(items, dealt, strict=True) if owner == rank]
    return own + [item for item, owner in zip(items, dealt, strict=True) if owner != rank][::-1]


def share(items: Sequence[T], rank: int, world_size: int, together: int = 1) -> list[T]:
    """A rank's own items, which come first in its turns."""
    return [item for index, item in enumerate(items) if (index // together) % world_size == rank]
