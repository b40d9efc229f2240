"""Changes in words are the operations, one after the other."""

from __future__ import annotations

import pytest
import torch

from ditflow.fields.changes import CHANGES, changed
from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.operations import (
    mirrored,
    paced,
    reversed_in_time,
    rotated,
    scaled,
    smoothed,
    split,
)
from ditflow.fields.regions import restricted
from tests.ditflow.fields.analytic import moving

MOTION = moving((0.1, 0.05), 1.2, -20)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", MOTION),
        (" , ", MOTION),
        ("reversed", reversed_in_time(MOTION)),
        ("mirrored", mirrored(MOTION)),
        ("mirrored top-bottom", mirrored(MOTION, "top-bottom")),
        ("rotated -90", rotated(MOTION, -90)),
        ("paced 2", paced(MOTION, 2)),
        ("scaled .5", scaled(MOTION, 0.5)),
        ("smoothed", smoothed(MOTION)),
        ("smoothed 0.1 3", smoothed(MOTION, 0.1, 3)),
        ("camera", split(MOTION)[0]),
        ("objects", split(MOTION)[1]),
        ("restricted 0 0 0.5 1", restricted(MOTION, (0, 0, 0.5, 1))),
        ("restricted 0 0 .5 1 moving", restricted(MOTION, (0, 0, 0.5, 1), moving=True)),
        ("rotated 90,  scaled 0.5", scaled(rotated(MOTION, 90), 0.5)),
    ],
)
def test_words_are_operations_in_their_order(words: str, wanted: MotionField) -> None:
    got = changed(MOTION, words)
    assert torch.equal(got.displacement, wanted.displacement)
    assert (got.times, got.frames) == (wanted.times, wanted.frames)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "turned 90",
            "unknown change 'turned 90' of a motion; there are camera, objects, mirr",
        ),
        ("reversed 2", "is 'reversed 2', but reversed takes nothing"),
        ("rotated", "is 'rotated', but rotated takes DEGREES"),
        ("rotated far", "is 'rotated far', but rotated takes DEGREES"),
        ("rotated nan", "by a number of degrees"),
        ("paced 0", "slowed by a factor above 0"),
        ("restricted 0 0 1", "but restricted takes LEFT TOP RIGHT BOTTOM"),
        ("restricted 0 0 1 1 still", "but restricted takes LEFT TOP RIGHT BOTTOM"),
        ("restricted 0 0 0 1", "is empty"),
        ("mirrored inside-out", "left-right or top-bottom, not 'inside-out'"),
    ],
)
def test_other_words_are_refused(words: str, sentence: str) -> None:
    with pytest.raises(FieldError, match=sentence):
        changed(MOTION, words)


def test_every_change_has_a_test() -> None:
    assert set(CHANGES) == {
        *("camera", "objects", "mirrored", "paced", "restricted"),
        *("reversed", "rotated", "scaled", "smoothed"),
    }
