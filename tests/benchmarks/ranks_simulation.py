"""How well many ranks share a library: the real leases, claims and order of work, under simulated
time.

python -m tests.benchmarks.ranks_simulation --ranks 64 --clips 1280

Nothing of the scheduling is imitated: each rank is a thread that runs `StepLoader` over `WorkQueue`
with `Leases` in a real folder. Simulated are the clock, of which one thread at a time moves the
hand, the time that a step takes, and the bank. The ideal is a library that could be cut as finely
as one likes
and handed over at no cost: all the work that there is, over all the speed that is present. No
schedule of whole clips reaches it.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.queue.inflight import InflightBatch
from datamodules.queue.job import PAUSE
from datamodules.queue.step_loader import StepLoader
from datamodules.queue.work_queue import Leg, Plan, WorkQueue, turns
from ditflow.bank.failures import Failure
from ditflow.bank.leases import EXPIRY, Leases
from tests.benchmarks.simulated_time import Clock

STEPS = 10  # of a clip
MINUTES = 20.0  # that a clip takes on a rank of speed 1, on average
FOREVER = float("inf")


class Killed(Exception):
    """A process is no more; what it held it holds still."""


@dataclass(frozen=True)
class Rank:
    """One process: `index` of `world_size` in its job. It leaves by SIGTERM, after its step and
    giving back what it holds, or by kill -9, at once.
    """

    name: str
    index: int = 0
    world_size: int = 1
    slowness: float = 1.0
    joins: float = 0.0
    leaves: float = FOREVER
    by_kill: bool = False


@dataclass
class Library:
    """What a bank would hold: the `Library` that `WorkQueue` asks. `costs` are seconds of a clip at
    speed 1; a clip in `bad` fails in that step.
    """

    costs: dict[str, float]
    bad: dict[str, int] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    failed: dict[str, Failure] = field(default_factory=dict)
    records: dict[str, InflightBatch] = field(default_factory=dict)
    steps: Counter[tuple[str, int]] = field(default_factory=Counter)

    def alike(self, name: str) -> None:
        """All clips are of one size."""

    def is_done(self, name: str) -> bool:
        return name in self.done

    def failures(self) -> Mapping[str, Failure]:
        return self.failed

    def begun(self) -> list[InflightBatch]:
        return sorted(self.records.values(), key=lambda record: (-record.step, record.key))

    def leg(self, record: InflightBatch) -> Leg | None:
        found = self.records.get(record.key)
        return None if found is None else Leg(found.names, found.step, found.key)

    @property
    def work(self) -> float:
        """Seconds at speed 1 that cannot be spared: a bad clip ends with the step that fails."""
        return sum(
            cost * (self.bad[name] + 1) / STEPS if name in self.bad else cost
            for name, cost in self.costs.items()
        )

    def advance(self, name: str, step: int, claims: WorkQueue) -> None:
        """What a process does after a step: a record, or the entry, or the failure."""
        self.steps[name, step] += 1
        if step == self.bad.get(name):
            self.failed[name] = Failure("it is bad", 1, "")
        elif step + 1 < STEPS:
            self.records[name] = InflightBatch(name, (name,), "", step + 1, STEPS, 0.0, ())
            return
        else:
            self.done[name] += 1
        self.records.pop(name, None)
        claims.settle([name])


def work(clock: Clock, library: Library, place: str, rank: Rank) -> None:
    """The life of one rank."""
    leases = Leases(place, rank.name, clock=lambda: clock.now)
    todo = tuple(
        name for name in library.costs if not library.is_done(name) and name not in library.failed
    )
    plan = Plan(
        todo=todo, attempts={name: failure.attempts for name, failure in library.failed.items()}
    )

    def wait() -> bool:
        pass_time(10 * PAUSE)
        return rank.index == 0

    def pass_time(seconds: float) -> None:
        """With a heartbeat as often as it must be, as long as the process lives."""
        until = min(clock.now + seconds, rank.leaves if rank.by_kill else FOREVER)
        while clock.now < until:
            clock.sleep(min(EXPIRY / 2, until - clock.now))
            leases.renew()
        if rank.by_kill and clock.now >= rank.leaves:
            raise Killed

    claims = WorkQueue(library, leases, plan, turns(todo, rank.index, rank.world_size), 1, wait)
    try:
        for leg, step in StepLoader(
            claims, lambda leg: leg, STEPS, goes_on=claims.goes_on, length=0
        ):
            (name,) = leg.names
            pass_time(library.costs[name] * rank.slowness / STEPS)
            library.advance(name, step, claims)
            if clock.now >= rank.leaves:
                return leases.release(name)
    except Killed:
        return


def simulate(library: Library, ranks: list[Rank]) -> dict[str, Any]:
    """Let the ranks do the library, and compare. Raises AssertionError where a clip was lost or
    done twice.

    `efficiency` is the ideal end over the real one, which the last clip decides; `used_share` is
    the part of the ranks' time, as long as they stayed, that
    went into the library: a rank ends when nothing is left for it, but for rank 0.
    """
    clock, paid = Clock(), list[float]()

    def live(rank: Rank) -> None:
        work(clock, library, place, rank)
        paid.append((clock.now - rank.joins) / rank.slowness)

    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if Path("/dev/shm").is_dir() else None
    ) as place:
        for rank in ranks:
            clock.start(rank.joins, partial(live, rank))
        clock.run()
    assert (
        set(library.done) == library.costs.keys() - library.bad.keys()
        and set(library.failed) == library.bad.keys()
    ), "clips were lost"
    assert set(library.done.values()) <= {1}, "clips were done twice"
    ended, wanted = clock.now, ideal(library, ranks)
    twice = sum(
        (count - 1) * library.costs[name] / STEPS for (name, _), count in library.steps.items()
    )
    hours = {"hours": ended / 3600, "ideal_hours": wanted / 3600}
    return {
        **hours,
        "efficiency": wanted / ended,
        "used_share": library.work / sum(paid),
        "repeated_share": twice / library.work,
    }


def ideal(library: Library, ranks: list[Rank]) -> float:
    """When the work would be done by the speed that is present at each moment, if none were ever
    lost.
    """
    moments = sorted({rank.joins for rank in ranks} | {rank.leaves for rank in ranks})
    left, now = library.work, 0.0
    for moment in moments:
        speed = sum(1 / rank.slowness for rank in ranks if rank.joins <= now < rank.leaves)
        if speed and left <= speed * (moment - now):
            return now + left / speed
        left, now = left - speed * (moment - now), moment
    raise ValueError("the ranks leave before the work can be done")


def scenarios(ranks: int, clips: int, seed: int = 0) -> dict[str, tuple[Library, list[Rank]]]:
    """From an even library on equal ranks to failures and spot ranks that come and go."""
    draw = random.Random(seed)
    names = [f"clip{number:05d}" for number in range(clips)]
    even = dict.fromkeys(names, 60 * MINUTES)
    uneven = {name: 60 * MINUTES * draw.lognormvariate(-0.125, 0.5) for name in names}
    bad = {name: draw.randrange(STEPS) for name in names if draw.random() < 0.03}
    equal = [Rank(f"rank{index}", index, ranks) for index in range(ranks)]
    mixed = [replace(rank, slowness=draw.uniform(0.9, 1.1)) for rank in equal]
    slow = [*mixed[:-1], replace(mixed[-1], slowness=5.0)]
    hours = clips * MINUTES / ranks / 60
    leaving = [
        replace(rank, leaves=draw.uniform(0.1, 0.9) * 3600 * hours, by_kill=rank.index % 2 == 0)
        for rank in slow[1 : 1 + ranks // 4]
    ]
    joining = [
        Rank(f"spot{number}", joins=draw.uniform(0.1, 0.9) * 3600 * hours)
        for number in range(ranks // 4)
    ]
    return {
        "even clips, equal ranks": (Library(even), equal),
        "uneven clips": (Library(uneven), mixed),
        "one rank five times slower": (Library(uneven), slow),
        "3 % of the clips fail": (Library(uneven, bad), slow),
        "a quarter leaves, as many join": (
            Library(uneven, bad),
            [slow[0], *leaving, *slow[1 + len(leaving) :], *joining],
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--clips", type=int, default=1280)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name, (library, ranks) in scenarios(**vars(arguments)).items():
        print(json.dumps({"scenario": name, **simulate(library, ranks)}), flush=True)


if __name__ == "__main__":
    main()
