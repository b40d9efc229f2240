"""WorkQueue: whatever other processes do, every clip is taken, none by two at once, and what was
begun goes on.
"""

from __future__ import annotations

import random

import pytest

from datamodules.queue.inflight import InflightBatch
from datamodules.queue.work_queue import Leg, Plan, WorkQueue, turns
from ditflow.bank import Failure, MotionBank
from ditflow.bank.leases import Leases


class Shelves:
    """A library without a disk: what is done, what failed, and how far batches have come."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.failed: dict[str, Failure] = {}
        self.records: list[InflightBatch] = []
        self.broken: set[str] = set()
        self.sizes: dict[str, int] = {}

    def alike(self, name):
        return self.sizes.get(name)

    def is_done(self, name):
        return name in self.done

    def failures(self):
        return self.failed

    def begun(self):
        return sorted(self.records, key=lambda record: -record.step)

    def leg(self, record):
        return None if record.key in self.broken else Leg(record.names, record.step, record.key)


@pytest.fixture
def shelves():
    return Shelves()


@pytest.fixture
def bank(tmp_path):
    return MotionBank(tmp_path / "bank", create=True)


@pytest.fixture
def claims(shelves, bank):
    def claims(
        names="abcde",
        *,
        rank=0,
        world_size=1,
        batch_size=1,
        holder=None,
        pause=lambda: False,
        **plan,
    ) -> WorkQueue:
        order = turns(list(names), rank, world_size, batch_size)
        return WorkQueue(
            shelves,
            Leases(bank, holder or f"rank {rank}"),
            Plan(tuple(names), **plan),
            order,
            batch_size,
            pause,
        )

    return claims


def test_clips_of_different_sizes_are_not_worked_on_together(claims, shelves):
    """They are taken in order, each with the next ones like it."""
    shelves.sizes = {"a": 25, "b": 24, "c": 25, "d": 24, "e": 25}
    taken = []
    for leg in (work := claims(batch_size=2)):
        taken.append("".join(leg.names))
        shelves.done.update(leg.names)
        work.settle(leg.names)
    assert taken == ["ac", "bd", "e"]


def record(names: str, step: int) -> InflightBatch:
    return InflightBatch(f"{names}-{step}", tuple(names), "settings", step, 9, 1.0, ())


def work(claims, shelves) -> list[str]:
    taken = []
    for leg in claims:
        taken.append("".join(leg.names))
        shelves.done.update(leg.names)
        claims.settle(leg.names)
    return taken


def test_alone_a_process_takes_all_in_order(claims, shelves):
    assert work(claims(batch_size=2), shelves) == ["ab", "cd", "e"]


def test_what_is_done_or_not_in_the_plan_is_not_taken(claims, shelves):
    shelves.done = {"b"}
    assert work(claims("abd", batch_size=3), shelves) == ["ad"]


def test_begun_batches_come_first_and_keep_their_composition(claims, shelves):
    shelves.records = [record("bd", 2), record("e", 4)]
    legs = []
    one = claims(batch_size=3)
    for leg in one:
        legs.append(leg)
        one.settle(leg.names)
    assert legs == [Leg(("e",), 4, "e-4"), Leg(("b", "d"), 2, "bd-2"), Leg(("a", "c"))]


def test_a_batch_with_published_clips_still_runs_for_the_others(claims, shelves):
    shelves.records, shelves.done = [record("ab", 3)], {"a"}
    assert next(iter(claims("b"))) == Leg(("a", "b"), 3, "ab-3")


def test_of_records_of_one_clip_the_furthest_counts(claims, shelves):
    shelves.records = [record("ab", 2), record("a", 3)]
    assert work(claims("ab", batch_size=2), shelves) == ["a", "ab"], (
        "the batch goes on for the other one"
    )


def test_a_batch_that_cannot_go_on_starts_again(claims, shelves):
    shelves.records, shelves.broken = [record("ab", 2)], {"ab-2"}
    assert next(iter(claims("ab", batch_size=2))) == Leg(("a", "b"))


def test_a_batch_that_is_in_the_hands_of_another_is_left_to_it(claims, shelves, bank):
    shelves.records = [record("ab", 2)]
    assert Leases(bank, "another").acquire("b")
    assert work(claims("abc"), shelves) == ["a", "c"]


def test_who_is_done_takes_from_the_end_of_the_others(claims, shelves):
    slow, fast = claims("abcdefgh", rank=0, world_size=2), claims("abcdefgh", rank=1, world_size=2)
    first = next(iter(slow))
    assert first.names == ("a",)
    assert work(fast, shelves) == ["b", "d", "f", "h", "g", "e", "c"]
    assert list(fast.left) == ["a"], "what the slow one holds is left to it"


def test_who_stays_looks_again_until_all_is_settled(claims, shelves):
    slow = claims("ab", rank=1, world_size=2)
    held = next(iter(slow))
    waits = []

    def pause() -> bool:
        waits.append(held)
        if len(waits) == 3:
            shelves.done.add("b")
            slow.settle(["b"])
        return True

    assert work(claims("ab", pause=pause, world_size=2), shelves) == ["a"]
    assert len(waits) == 3


def test_what_another_has_given_up_is_not_tried_again_in_this_run(claims, shelves):
    shelves.failed = {"a": Failure("before", 1, ""), "b": Failure("now", 2, "")}
    one = claims("ab", attempts={"a": 1, "b": 1}, failed={"x": "never tried"})
    assert work(one, shelves) == ["a"]
    assert (
        one.failed == {"x": "never tried", "b": "now"}
        and one.has_failed("b")
        and not one.has_failed("a")
    )


def test_a_batch_that_fails_is_tried_in_halves_by_the_same_process(claims, shelves):
    one, other = claims("abcdefgh", batch_size=5), claims("abcdefgh", holder="other")
    tried = []
    for leg in one:
        tried.append("".join(leg.names))
        if len(tried) == 1:
            first = leg
            one.halve(leg, smaller=True)
            assert not one.goes_on(first) and next(iter(other)).names == ("f",), (
                "nobody takes the other half meanwhile"
            )
        else:
            one.settle(leg.names)
    assert tried == ["abcde", "abc", "de", "gh"]


def test_a_batch_whose_record_is_damaged_begins_again_at_once(claims, shelves):
    shelves.records = [record("bd", 2)]
    one, legs = claims(batch_size=3), []
    for leg in one:
        legs.append(leg)
        if len(legs) == 1:
            one.begin_again(leg)
            assert not one.goes_on(leg)
        else:
            one.settle(leg.names)
            shelves.records = []
    assert legs == [Leg(("b", "d"), 2, "bd-2"), Leg(("b", "d")), Leg(("a", "c", "e"))]


def test_only_a_lack_of_memory_makes_later_batches_smaller(claims, shelves):
    for smaller, wanted in (
        (True, ["abcd", "ab", "cd", "ef", "gh"]),
        (False, ["abcd", "ab", "cd", "efgh"]),
    ):
        one, tried = claims("abcdefgh", batch_size=4, holder=f"{smaller}"), []
        for leg in one:
            tried.append("".join(leg.names))
            one.halve(leg, smaller=smaller) if len(tried) == 1 else one.settle(leg.names)
        assert tried == wanted


@pytest.mark.parametrize("seed", range(20))
def test_any_crowd_settles_every_clip_once(shelves, bank, seed):
    """Processes of three jobs with shares of their own, in any order, some of which die in between
    and are found out.
    """
    dice = random.Random(seed)
    names = [f"clip{index}" for index in range(dice.randint(1, 12))]
    clock = [0.0]
    crowd, done = [], []
    for job in range(3):
        world_size, batch_size = dice.randint(1, 3), dice.randint(1, 3)
        for rank in range(world_size):
            leases = Leases(bank, f"{job}.{rank}", clock=lambda: clock[0])
            leases._mine = leases._mine.__class__(
                0, f"{job}.{rank}"
            )  # a process of which nothing is known
            order = turns(names, rank, world_size, batch_size)
            crowd.append(
                [
                    WorkQueue(shelves, leases, Plan(tuple(names)), order, batch_size, lambda: True),
                    leases,
                    None,
                ]
            )
    crowd = [[iter(claims), claims, leases, leg] for claims, leases, leg in crowd]
    for _ in range(10_000):
        if not crowd or set(done) == set(names):
            break
        member = dice.choice(crowd)
        _, claims, leases, leg = member
        if len(crowd) > 1 and dice.random() < 0.02:
            crowd.remove(member)
            clock[0] += 1
        elif leg is not None:
            done += leg.names
            shelves.done.update(leg.names)
            claims.settle(leg.names)
            member[3] = None
        else:
            member[3] = claims._current = claims._next()
        clock[0] += 20
        for _, _, living, _ in crowd:
            living.renew()
    assert sorted(done) == sorted(names)
