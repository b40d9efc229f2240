"""How far a library of clips has come, from what a bank's folder shows: entries, failures, records
of batches in flight, and leases. Loads no torch.

All processes that build the bank are counted, on whatever host, and clocks are never compared:
speed is what the batches in flight say of themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datamodules.queue import inflight as records
from datamodules.queue.inflight import Record
from ditflow.bank import Failure, MotionBank
from ditflow.bank.leases import Leases


@dataclass(frozen=True)
class Flight:
    """A batch that was begun. `holder` works on it; "" where nobody does."""

    record: Record
    holder: str

    @property
    def clips_per_second(self) -> float:
        """0 where it cannot be told yet."""
        record = self.record
        return (
            len(record.names) * record.step / record.steps / record.seconds
            if record.seconds > 0
            else 0.0
        )

    @property
    def seconds_left(self) -> float:
        return (
            self.record.seconds * (self.record.steps - self.record.step) / max(self.record.step, 1)
        )


@dataclass(frozen=True)
class Progress:
    """A library at one moment. `asked`, `done` and the keys of `failed` are clips; `holders` are
    the processes at work.
    """

    asked: frozenset[str]
    done: frozenset[str]
    failed: Mapping[str, Failure]
    flights: tuple[Flight, ...]
    holders: frozenset[str]

    @cached_property
    def left(self) -> frozenset[str]:
        """Clips that are neither done nor failed; those in flight are among them."""
        return self.asked - self.done - self.failed.keys()

    @property
    def work_left(self) -> float:
        """In clips; what is behind a batch in flight is taken off."""
        return len(self.left) - sum(
            flight.record.step
            / flight.record.steps
            * len(self.left.intersection(flight.record.names))
            for flight in self.flights
        )

    @property
    def clips_per_hour(self) -> float:
        """Of all processes at work together, each as fast as the mean of those that can be told; 0
        where none can.
        """
        speeds = [
            flight.clips_per_second
            for flight in self.flights
            if flight.holder and flight.clips_per_second
        ]
        return 3600 * len(self.holders) * sum(speeds) / len(speeds) if speeds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until the last clip is done if nobody joins or leaves; None where it cannot be told."""
        if not self.left or not self.clips_per_hour:
            return None if self.left else 0.0
        slowest = max(
            (flight.seconds_left for flight in self.flights if flight.holder), default=0.0
        )
        return max(3600 * self.work_left / self.clips_per_hour, slowest)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, for other programs."""
        return {
            "schema": 1,
            "asked": len(self.asked),
            "done": len(self.done),
            "failed": {
                name: {"reason": failure.reason, "attempts": failure.attempts}
                for name, failure in self.failed.items()
            },
            "left": len(self.left),
            "in_flight": [_flight(flight) for flight in self.flights],
            "holders": sorted(self.holders),
            "clips_per_hour": self.clips_per_hour,
            "seconds_left": self.seconds_left,
        }


class Watcher:
    """Looks at a bank again and again: a holder whose heartbeat stands still between looks counts
    as gone.

    Args:
        asked: The clips that count; by default all that the bank was asked for, and those that it
            knows of.
        done: Tells which clips are done; by default those with an entry.
    """

    def __init__(
        self,
        bank: MotionBank,
        asked: Collection[str] | None = None,
        done: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        self.bank, self.asked, self._leases = bank, asked, Leases(bank, "watcher")
        self._done = done if done is not None else bank.keys

    def look(self) -> Progress:
        """What is done last: a clip that is published meanwhile is counted once."""
        dead = self._leases.dead()
        holders = {key: holder for key, holder in self._leases.holders().items() if key not in dead}
        begun, failures, done = (
            list(records.begun(self.bank)),
            self.bank.failures(),
            set(self._done()),
        )
        known = (
            {*done, *failures, *(name for record in begun for name in record.names)}
            | self.bank.asked.names()
            if self.asked is None
            else self.asked
        )
        asked = frozenset(known)
        flights = tuple(
            Flight(record, _holder(record, holders))
            for record in begun
            if not asked.isdisjoint(set(record.names) - done)
        )
        retried = {name for flight in flights if flight.holder for name in flight.record.names}
        failed = {
            name: failure for name, failure in failures.items() if name in asked - done - retried
        }
        return Progress(
            asked, frozenset(asked & done), failed, flights, frozenset(holders.values())
        )


def _holder(record: Record, holders: Mapping[str, str]) -> str:
    return next((holders[key] for key in (record.key, *record.names) if key in holders), "")


def _flight(flight: Flight) -> dict[str, Any]:
    record = flight.record
    facts = {
        "clips": list(record.names),
        "step": record.step,
        "steps": record.steps,
        "seconds": record.seconds,
        "losses": list(record.losses),
    }
    return facts | {"holder": flight.holder}
