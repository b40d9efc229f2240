"""Curves: where their points are, what happens to gaps, and round ticks."""

from __future__ import annotations

import math
import re

import numpy
import pytest

from ditflow.visual import Chart, Curve, Mark
from ditflow.visual.curves import POINTS

NAN = float("nan")


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+?) ([-\d.]+)", path)]


def test_the_first_point_is_left_and_the_highest_is_on_top():
    assert points(Curve("c", (3.0, 1.0, 2.0)).path(1, 3, 100, 20)) == [(0, 0), (50, 20), (100, 10)]


def test_gaps_are_not_drawn_over():
    assert (
        Curve("c", (1.0, 2.0, NAN, math.inf, 1.0, 1.5)).path(1, 2, 5, 1)
        == "M0.0 1.0L1.0 0.0M4.0 1.0L5.0 0.5"
    )


@pytest.mark.parametrize("values", [(), (1.0,), (2.0, 2.0), (NAN,)])
def test_curves_without_extent_can_be_drawn(values):
    curve = Curve("c", values)
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    assert len(points(curve.thinned().path(low, high, 10, 10))) == len(finite)
    assert "nan" not in curve.path(low, high, 10, 10)


def test_thinning_keeps_the_mean_and_the_order():
    values = tuple(numpy.random.default_rng(0).uniform(size=POINTS * 7).cumsum())
    thin = Curve("c", values).thinned()
    assert len(thin.values) == POINTS and list(thin.values) == sorted(thin.values)
    assert numpy.mean(thin.values) == pytest.approx(
        numpy.mean(values)
    )  # the parts have one length here
    assert Curve("c", values[:5]).thinned().values == values[:5]
    assert Curve("c", values, Mark(3, dashed=True)).thinned().mark == Mark(3, dashed=True)


@pytest.mark.parametrize(
    "values", [(0.2, 0.97), (1.0, 1.0), (0.0, 0.0), (-3.0, 1e4), (1e-7, 3e-7), (-0.5, -0.5)]
)
def test_ticks_are_round_and_hold_all_values(values):
    ticks = Chart("c", "x", (Curve("a", values), Curve("b", (NAN,)))).ticks
    assert ticks[0] <= min(values) and max(values) <= ticks[-1] and 2 <= len(ticks) <= 7
    steps = numpy.diff(ticks)
    assert steps == pytest.approx(steps[0]) and float(f"{steps[0]:.2g}") == pytest.approx(steps[0])


def test_a_chart_of_nothing_has_ticks_too():
    chart = Chart("c", "x", (Curve("a", (NAN,)),))
    assert chart.ticks == [0.0, 0.25, 0.5, 0.75, 1.0] and chart.ends(100, 10) == []


@pytest.mark.parametrize(
    "lasts",
    [
        (0.5,),
        (0.0, 1.0),
        (0.5,) * 5,
        (0.0, 0.01, 0.02, 1.0),
        (1.0, 0.99, 0.98),
        (0.3, 0.7, 0.31, 0.29),
    ],
)
def test_labels_at_the_ends_of_curves_do_not_touch(lasts):
    chart = Chart(
        "c",
        "x",
        (Curve("scale", (0.0, 1.0, 0.5)), *(Curve(f"{last}", (0.5, last, NAN)) for last in lasts)),
    )
    ends = chart.ends(100, 10)
    assert len(ends) == len(lasts) + 1
    for curve, end, _ in ends:
        assert end == pytest.approx(100 * (1 - curve.finite[-1]))  # the ticks go from 0 to 1
    assert [end for _, end, _ in ends] == sorted(end for _, end, _ in ends)
    labels = [label for *_, label in ends]
    assert 0 <= labels[0] and labels[-1] <= 100 and (numpy.diff(labels) >= 10 - 1e-9).all()


def test_a_label_with_room_is_at_the_end_of_its_curve():
    ends = Chart("c", "x", tuple(Curve(f"{last}", (0.0, last)) for last in (1.0, 0.5, 0.0))).ends(
        100, 10
    )
    assert [label for *_, label in ends] == [end for _, end, _ in ends] == [0, 50, 100]


def test_more_labels_than_there_is_room_for_are_closer_but_inside():
    labels = [
        label
        for *_, label in Chart("c", "x", tuple(Curve("c", (0.0, 1.0)) for _ in range(21))).ends(
            100, 10
        )
    ]
    assert labels == pytest.approx([5.0 * index for index in range(21)])
