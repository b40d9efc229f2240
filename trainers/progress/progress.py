"""Progress of a library of clips, read from the bank's folder: entries, failures, batches in flight
and leases. Loads no torch.

It counts all processes that build the bank, on any host. Clocks are never compared: speeds come
from the seconds that each batch in flight records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datamodules.queue import inflight
from datamodules.queue.inflight import InflightBatch
from ditflow.bank import Failure, MotionBank
from ditflow.bank.leases import Leases


@dataclass(frozen=True)
class Flight:
    """A batch that was begun. `holder` is the process that works on it, "" if none does."""

    record: InflightBatch
    holder: str

    @property
    def clips_per_second(self) -> float:
        """0 before the first step."""
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
    """A library at one moment. `asked`, `done` and the keys of `failed` are names of clips;
    `holders` are the processes at work.
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
        """The clips left, less the finished part of the batches in flight."""
        return len(self.left) - sum(
            flight.record.step
            / flight.record.steps
            * len(self.left.intersection(flight.record.names))
            for flight in self.flights
        )

    @property
    def clips_per_hour(self) -> float:
        """Speed of all processes together. A process whose speed is unknown counts as the mean of
        the others; 0 if all are unknown.
        """
        speeds = [
            flight.clips_per_second
            for flight in self.flights
            if flight.holder and flight.clips_per_second
        ]
        return 3600 * len(self.holders) * sum(speeds) / len(speeds) if speeds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time until the last clip is done if no process joins or leaves; None if unknown."""
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
    """Looks at a bank repeatedly. A process whose heartbeat stands still between looks counts as
    gone.

    Args:
        asked: The clips to count; by default all that runs have asked for, and all in the bank.
        done: Returns the clips that are done; by default those with an entry.
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
        """Read the bank: entries last, so that a clip that is published meanwhile counts once."""
        dead = self._leases.dead()
        holders = {key: holder for key, holder in self._leases.holders().items() if key not in dead}
        begun, failures, done = (
            list(inflight.begun(self.bank)),
            self.bank.failures(),
            set(self._done()),
        )
        known = (
            {*done, *failures, *(name for record in begun for name in record.names)}
            | self.bank.requests.names()
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


def _holder(record: InflightBatch, holders: Mapping[str, str]) -> str:
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
