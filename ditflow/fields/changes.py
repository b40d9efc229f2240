"""Changes of a motion, written in words: "reversed, rotated 90, restricted 0 0 0.5 1".

Changes are separated by commas, and each acts on what the one before it made. What a change takes
comes after its name.
"""

from __future__ import annotations

from collections.abc import Callable

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

Change = Callable[[MotionField, list[str]], MotionField]


def _camera(field: MotionField, words: list[str]) -> MotionField:
    return split(field)[0]


def _objects(field: MotionField, words: list[str]) -> MotionField:
    return split(field)[1]


def _mirrored(field: MotionField, words: list[str]) -> MotionField:
    return mirrored(field, words[0] if words else "left-right")  # type: ignore[arg-type]


def _restricted(field: MotionField, words: list[str]) -> MotionField:
    moving = words[4:] == ["moving"]
    left, top, right, bottom = map(float, words[:-1] if moving else words)
    return restricted(field, (left, top, right, bottom), moving=moving)


CHANGES: dict[str, tuple[str, range, Change]] = {  # what it takes, in words and in number
    "camera": ("", range(1), _camera),
    "objects": ("", range(1), _objects),
    "mirrored": ("left-right or top-bottom", range(2), _mirrored),
    "paced": ("FACTOR", range(1, 2), lambda field, words: paced(field, float(words[0]))),
    "restricted": ("LEFT TOP RIGHT BOTTOM, and perhaps moving", range(4, 6), _restricted),
    "reversed": ("", range(1), lambda field, words: reversed_in_time(field)),
    "rotated": ("DEGREES", range(1, 2), lambda field, words: rotated(field, float(words[0]))),
    "scaled": ("AMOUNT", range(1, 2), lambda field, words: scaled(field, float(words[0]))),
    "smoothed": ("SPACE TIME", range(3), lambda field, words: smoothed(field, *map(float, words))),
}


def changed(field: MotionField, changes: str) -> MotionField:
    """A field after changes in words, in their order; the field itself where there are none.

    The words are names of `ditflow.fields.operations` and `regions`, and what these take.
    "camera" is the camera's part of the motion, and "objects" the rest. Raises FieldError as
    `check_changes` does, and where a change takes other numbers.
    """
    for name, words in _parsed(changes):
        takes, _, make = CHANGES[name]
        try:
            field = make(field, words)
        except FieldError:
            raise
        except ValueError as error:
            raise _other(name, words, takes) from error
    return field


def check_changes(changes: str) -> None:
    """Raise FieldError for a change that is not known, or takes more words, or fewer."""
    _parsed(changes)


def _parsed(changes: str) -> list[tuple[str, list[str]]]:
    parsed = []
    for change in filter(None, map(str.strip, changes.split(","))):
        name, *words = change.split()
        if name not in CHANGES:
            raise FieldError(f"unknown change {change!r:.80} of a motion; there are {_known()}.")
        takes, number, _ = CHANGES[name]
        if len(words) not in number:
            raise _other(name, words, takes)
        parsed.append((name, words))
    return parsed


def _other(name: str, words: list[str], takes: str) -> FieldError:
    given = " ".join([name, *words])
    wanted = f"{name} takes {takes or 'nothing'}"
    return FieldError(f"a change of a motion is {given!r:.80}, but {wanted}.")


def _known() -> str:
    return ", ".join(f"{name} {takes}".strip() for name, (takes, _, _) in CHANGES.items())
