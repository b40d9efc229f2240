"""Phrases: one grammar for what a clip's words say and for what a person asks for."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product

import pytest

from ditflow.bank import BankError
from ditflow.bank.search.phrases import Phrase, agreement, asked, told
from ditflow.fields.words import described
from tests.ditflow.fields.analytic import field, moving

LEFT, UP, IN = frozenset({"left"}), frozenset({"up"}), frozenset({"in"})


@pytest.mark.parametrize(
    ("words", "phrases"),
    [
        ("slow pan left", {Phrase("pan", LEFT, "slow")}),
        ("pans left slowly", {Phrase("pan", LEFT, "slow")}),
        ("camera moves left", {Phrase("pan", LEFT)}),
        ("pan up and left", {Phrase("pan", LEFT), Phrase("tilt", UP)}),
        (
            "slow pan left and fast zoom in",
            {Phrase("pan", LEFT, "slow"), Phrase("zoom", IN, "fast")},
        ),
        ("the subject moves up", {Phrase("thing", UP)}),
        ("two things move up and left", {Phrase("thing", UP | LEFT, number="several")}),
        ("The picture turns clockwise", {Phrase("roll", frozenset({"counterclockwise"}))}),
        ("zoom", {Phrase("zoom")}),
        ("still camera", {Phrase("still")}),
        ("the camera pans left", {Phrase("pan", LEFT)}),
        ("camera rolls clockwise", {Phrase("roll", frozenset({"clockwise"}))}),
        ("pans left, and comes back", {Phrase("pan", LEFT), Phrase("back")}),
        (
            "the camera is still; one thing moves up",
            {Phrase("still"), Phrase("thing", UP, "", "one")},
        ),
    ],
)
def test_what_words_say(words: str, phrases: set[Phrase]) -> None:
    assert asked(words) == told(words) == phrases


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("wobble left", "The word 'wobble' is not understood. Known are: pan left or right, tilt"),
        ("", "The words '' ask for no motion. Known are"),
        (", the", "ask for no motion"),
        ("zoom left", "The words 'zoom left' name no motion; separate motions by commas"),
        ("pan left zoom in", "separate motions by commas"),
        ("left", "'left' name no motion"),
        ("slow subject up", "name no motion"),
        ("two pan left", "name no motion"),
        ("camera", "name no motion"),
    ],
)
def test_words_that_are_not_understood(words: str, message: str) -> None:
    with pytest.raises(BankError, match=message):
        asked(words)
    assert told(words) == frozenset()


@pytest.mark.parametrize(
    ("wanted", "found", "score"),
    [
        ("pan left", "pans left", 1),
        ("pan left", "pans left slowly", 1),
        ("slow pan left", "pans left", 1 / 2),
        ("pan left", "pans right", 0),
        ("pan left", "tilts up", 0),
        ("pan left", "pans left, zooms in", 2 / 3),
        ("pan left, zoom in", "pans left", 2 / 3),
        ("two things move up", "one thing moves up", 1 / 2),
        ("subject moves up", "one thing moves up and left", 1),
        ("subject moves up and left", "one thing moves up", 1 / 2),
        ("pan", "pans left", 1),
        ("pan left", "", 0),
    ],
)
def test_agreement(wanted: str, found: str, score: float) -> None:
    assert agreement(asked(wanted), told(found)) == pytest.approx(score)


def test_agreement_is_the_same_in_each_process() -> None:
    """Sets of strings have another order there; "one thing" is best met by what one thing does."""
    code = (
        "from ditflow.bank.search.phrases import agreement, asked, told; "
        "print(agreement(asked('one thing moves, thing moves up, two things move left'), "
        "told('one thing moves up, two things move left, one thing moves left')), "
        "agreement(asked('pan, pan left, slow pan'), told('pans left slowly, pans right')))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    "words",
    ["subject rotates clockwise", "object pans left", "pan left zoom in", "camera object left"],
)
def test_one_clause_names_one_kind_of_motion(words: str) -> None:
    with pytest.raises(BankError, match=f"The words '{words}' name two kinds of motion; separate"):
        asked(words)
    assert told(words) == frozenset()


def test_a_phrase_is_met_once() -> None:
    both = asked("subject moves up, one thing moves up")
    assert agreement(both, told("one thing moves up")) == pytest.approx(2 / 3)


def test_all_that_is_said_of_a_camera_is_understood() -> None:
    """And agrees with itself in full."""
    for shift, zoom, degrees in product(
        ((0, 0), (0.05, 0), (-0.3, 0.5)), (1, 1.3, 0.5), (0, -30, 80)
    ):
        words = described(moving(shift, zoom, degrees))
        assert agreement(asked(words), told(words)) == 1


@pytest.mark.parametrize("count", [0, 1, 2, 6])
@pytest.mark.parametrize("comes_back", [False, True])
def test_all_that_is_said_of_things_is_understood(count: int, comes_back: bool) -> None:
    moved = moving((0.05, 0)).displacement
    for thing in range(count):
        place = moved[1:, :, 12 * (thing % 2) :, 10 * (thing // 2) :]
        place[:, 0, :4, :4] = 0.2
    words = described(field(moved[[0, 2, 0]] if comes_back else moved))
    assert ("thing" in words) == (count > 0) and ("back" in words) == comes_back
    assert agreement(asked(words), told(words)) == 1
