"""The order of work: whatever was done before, each clip's remaining steps come once, in order."""

from __future__ import annotations

from datamodules.trajectory import Leg, Trajectory, legs_of

STEPS = 5


def test_items_are_the_steps_that_are_left():
    made = []
    trajectory = Trajectory([Leg(("a", "b"), 3), Leg(("c",))], lambda leg: made.append(leg) or leg, STEPS)
    assert [(leg.names, step) for leg, step in trajectory] == [(("a", "b"), 3), (("a", "b"), 4), *((("c",), step) for step in range(STEPS))]
    assert len(trajectory) == len(list(trajectory)) == 7
    assert made == [*trajectory.legs] * 2, "a batch is made once a pass, when its first step is asked for"


def test_a_batch_is_made_when_it_is_reached():
    made = []
    items = iter(Trajectory([Leg(("a",)), Leg(("b",))], lambda leg: made.append(leg.names) or leg, STEPS))
    for _ in range(STEPS):
        next(items)
    assert made == [("a",)]


def test_nothing_left():
    assert len(Trajectory([], lambda leg: leg, STEPS)) == 0 and list(Trajectory([], lambda leg: leg, STEPS)) == []


def test_fresh_clips_are_cut_into_batches_in_order():
    assert legs_of("abcde", {}, 2) == [Leg(("a", "b")), Leg(("c", "d")), Leg(("e",))]


def test_begun_batches_come_first_and_keep_their_composition():
    records = {"r1": (("b", "d"), 2), "r2": (("e",), 4)}
    assert legs_of("abcde", records, 3) == [Leg(("e",), 4, "r2"), Leg(("b", "d"), 2, "r1"), Leg(("a", "c"))]


def test_a_batch_with_published_clips_still_runs_for_the_others():
    assert legs_of("b", {"r": (("a", "b"), 3)}, 2) == [Leg(("a", "b"), 3, "r")]


def test_of_records_of_one_clip_the_furthest_counts():
    assert legs_of("ab", {"batch": (("a", "b"), 2), "single": (("a",), 3)}, 2) == [Leg(("a",), 3, "single"), Leg(("b",))]


def test_clips_to_run_alone_leave_their_batch():
    records = {"batch": (("a", "b"), 2), "single": (("a",), 1)}
    assert legs_of("abc", records, 3, alone={"a", "b"}) == [Leg(("a",), 1, "single"), Leg(("c",)), Leg(("b",))]


def test_finished_records_are_left_aside():
    assert legs_of("b", {"r": (("a",), 2)}, 2) == [Leg(("b",))]
