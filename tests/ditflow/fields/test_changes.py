"""Changes in words are the operations, one after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ditflow.compatibility import Injection
from ditflow.fields.changes import (
    OF_FIELDS,
    OF_OFFSETS,
    TAKES,
    changed,
    pictures_in,
    renamed,
)
from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.operations import (
    mirrored,
    paced,
    restricted,
    reversed_in_time,
    rotated,
    scaled,
    smoothed,
    split,
)
from ditflow.video import VideoError
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
        ("restricted my mask.png", "is 'restricted my mask.png', but restricted takes LEFT .* or "),
        (
            "restricted",
            "is 'restricted', but restricted takes LEFT TOP RIGHT BOTTOM or \"PICTURE\"",
        ),
        ("restricted 'my mask.png", "a quote does not end in the changes"),
        ("mirrored inside-out", "left-right or top-bottom, not 'inside-out'"),
    ],
)
def test_other_words_are_refused(words: str, sentence: str) -> None:
    with pytest.raises(FieldError, match=sentence):
        changed(MOTION, words)


def test_every_change_has_a_test() -> None:
    assert TAKES.keys() == OF_FIELDS.keys() >= OF_OFFSETS.keys()
    assert set(TAKES) == {
        *("camera", "objects", "mirrored", "paced", "restricted"),
        *("reversed", "rotated", "scaled", "smoothed"),
    }


MASK = torch.zeros(24, 36)  # as wide as the frames are
MASK[:, :18] = 1


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("restricted left.png", "left.png"),
        ('restricted "my masks/left, or right.png"', "my masks/left, or right.png"),
        ("restricted 'a \"b\".png'", 'a "b".png'),
        ("restricted C:\\masks\\left.png", "C:\\masks\\left.png"),
        ("restricted #1.png", "#1.png"),
    ],
)
def test_a_region_is_a_picture(words: str, name: str) -> None:
    assert pictures_in(f"mirrored, {words}, scaled 2, {words}") == [name]
    assert not pictures_in("restricted 0 0 1 1, rotated 5")
    got = changed(MOTION, words, {name: MASK})
    assert torch.equal(got.displacement, restricted(MOTION, MASK).displacement)
    along = changed(MOTION, f"{words} moving", {name: MASK})
    wanted = restricted(MOTION, MASK, moving=True).displacement
    assert torch.equal(along.displacement, wanted)


def test_a_mask_is_read_once_for_all_copies_of_how_a_motion_acts(tmp_path: Path) -> None:
    """The file may go, or be painted over, while videos are made."""
    file = tmp_path / "left.png"
    Image.new("L", (8, 8), 255).save(file)
    how = Injection(change=f'restricted "{file}"')
    file.unlink()
    half = replace(how, strength=0.5)
    assert half.regions[str(file)] is how.regions[str(file)]
    with pytest.raises(VideoError, match="left.png"):
        Injection(change=f'restricted "{file}"')
    assert replace(how, change="reversed").masks == {}


def test_a_mask_that_is_not_given_is_named() -> None:
    with pytest.raises(FieldError, match="the mask 'a.png' is not among the masks given"):
        changed(MOTION, "restricted a.png")


def test_pictures_are_renamed_in_the_words() -> None:
    words = 'mirrored,restricted "a b.png" moving , rotated 90, restricted 0 0 .5 1'
    there = renamed(words, {"a b.png": "c, d's.png"})
    assert there == 'mirrored, restricted "c, d\'s.png" moving, rotated 90, restricted 0 0 .5 1'
    assert renamed(there, {"c, d's.png": "e.png"}).startswith("mirrored, restricted e.png moving")


def test_a_mask_of_another_shape_is_told() -> None:
    with pytest.raises(FieldError, match="the mask a.png has 36 x 12 pixels, and .* draw it on a"):
        changed(MOTION, "restricted a.png", {"a.png": torch.ones(36, 12)})
    with pytest.warns(UserWarning, match="mask a.png has 24 x 24 pixels, and .* 1.5 times as wide"):
        changed(MOTION, "restricted a.png", {"a.png": torch.ones(24, 24)})
