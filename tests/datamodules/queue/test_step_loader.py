"""The order of work: a batch is made when its leg comes up, each of its remaining steps comes once,
and every rank begins with its own share.
"""

from __future__ import annotations

import pytest

from datamodules.queue.step_loader import StepLoader
from datamodules.queue.work_queue import Leg, share, turns

STEPS = 5


def trajectory(legs, make=lambda leg: leg, goes_on=lambda leg: True) -> StepLoader:
    return StepLoader(legs, make, STEPS, goes_on=goes_on, length=99)


def test_items_are_the_steps_that_are_left():
    made = []
    items = trajectory([Leg(("a", "b"), 3), Leg(("c",))], lambda leg: made.append(leg) or leg)
    assert [(leg.names, step) for leg, step in items] == [
        (("a", "b"), 3),
        (("a", "b"), 4),
        *((("c",), step) for step in range(STEPS)),
    ]
    assert [leg.names for leg in made] == [("a", "b"), ("c",)] and len(items) == 99


def test_a_batch_is_made_when_it_is_reached():
    made = []
    items = iter(trajectory([Leg(("a",)), Leg(("b",))], lambda leg: made.append(leg.names)))
    for _ in range(STEPS):
        next(items)
    assert made == [("a",)]


def test_a_leg_that_goes_on_no_more_is_left():
    over = set()
    seen = []
    for leg, step in trajectory([Leg(("a",)), Leg(("b",))], goes_on=lambda leg: leg not in over):
        seen.append((leg.names[0], step))
        if seen[-1] == ("a", 1):
            over.add(leg)
    assert seen == [("a", 0), ("a", 1), *(("b", step) for step in range(STEPS))]


def test_nothing_left():
    assert list(trajectory([])) == []


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("together", [1, 2, 4])
def test_every_rank_has_all_turns_and_the_shares_are_dealt_out_once(world_size, together):
    items = list(range(11))
    shares = [share(items, rank, world_size, together) for rank in range(world_size)]
    assert sorted(item for part in shares for item in part) == items
    for rank, own in enumerate(shares):
        order = turns(items, rank, world_size, together)
        assert sorted(order) == items and order[: len(own)] == own == sorted(own)
        assert order[len(own) :] == sorted(order[len(own) :], reverse=True), (
            "from the end, where the others come last"
        )


def test_what_is_wanted_together_stays_together():
    assert share("abcdefg", 0, 2, 2) == list("abef") and share("abcdefg", 1, 2, 2) == list("cdg")
