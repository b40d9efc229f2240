"""Changes of a motion, written in words: "reversed, rotated 90, restricted mask.png moving".

Changes are separated by commas, and each acts on what the one before it made. What a change takes
comes after its name. What has spaces or commas in it stands in quotes, as in a shell.
"""

# Y X pixel rows and columns of a mask

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from ditflow.fields import operations
from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.offsets import Offsets
from ditflow.warning import warn

Masks = Mapping[str, Tensor]
"""Pictures of a region by name: (Y, X) of any size, from 0, outside, to 1, inside."""
Arguments = Mapping[str, Any]
M = TypeVar("M", MotionField, Offsets)
STRETCH = 2.0  # a mask that is stretched more than so much is of another picture


class Change(NamedTuple):
    """A change by its name, with the words that come after it."""

    name: str
    words: tuple[str, ...]

    @property
    def picture(self) -> str:
        """The name of the picture that it takes, or ""."""
        is_named = self.name == "restricted" and len(self.words) in (1, 2)
        return self.words[0] if is_named else ""

    def __str__(self) -> str:
        return " ".join([self.name, *map(_quoted, self.words)])


def _numbers(*names: str) -> Callable[[Change], Arguments]:
    return lambda change: dict(zip(names, map(float, change.words), strict=False))


def _across(change: Change) -> Arguments:
    return {"across": change.words[0]} if change.words else {}


def _region(change: Change) -> Arguments:
    """A box, or the name of a picture, whose mask comes into its place."""
    *region, last = change.words
    moving = last == "moving"
    region = region if moving else [*region, last]
    return {"region": change.picture or tuple(map(float, region)), "moving": moving}


# what a change takes: in words, how many of them, and what they are to the operation
TAKES: dict[str, tuple[str, Collection[int], Callable[[Change], Arguments]]] = {
    "camera": ("", (0,), _numbers()),
    "objects": ("", (0,), _numbers()),
    "mirrored": ("left-right or top-bottom", (0, 1), _across),
    "paced": ("FACTOR", (1,), _numbers("factor")),
    "restricted": (
        'LEFT TOP RIGHT BOTTOM or "PICTURE", and perhaps moving',
        (1, 2, 4, 5),
        _region,
    ),
    "reversed": ("", (0,), _numbers()),
    "rotated": ("DEGREES", (1,), _numbers("degrees")),
    "scaled": ("AMOUNT", (1,), _numbers("amount")),
    "smoothed": ("SPACE TIME", (0, 1, 2), _numbers("space", "time")),
}
OF_FIELDS: dict[str, Callable[..., MotionField]] = {
    "camera": lambda field: operations.split(field)[0],
    "objects": lambda field: operations.split(field)[1],
    "mirrored": operations.mirrored,
    "paced": operations.paced,
    "restricted": operations.restricted,
    "reversed": operations.reversed_in_time,
    "rotated": operations.rotated,
    "scaled": operations.scaled,
    "smoothed": operations.smoothed,
}
OF_OFFSETS: dict[str, Callable[..., Offsets]] = {
    "mirrored": Offsets.mirrored,
    "paced": Offsets.paced,
    "restricted": Offsets.restricted,
    "reversed": Offsets.reversed_in_time,
    "rotated": Offsets.rotated,
    "scaled": Offsets.scaled,
}


def changed(field: MotionField, changes: str, masks: Masks | None = None) -> MotionField:
    """A field after changes in words, in their order; the field itself where there are none.

    The words are names of `ditflow.fields.operations`, and what these take. "camera" is the
    camera's part of the motion, and "objects" the rest. `masks` are the pictures that the changes
    name; each is stretched to the frame, as clips are. Raises FieldError as `parsed` does,
    where a change takes other numbers, and for a mask of quite another shape than the frame.
    """
    return _changed(field, changes, masks or {}, OF_FIELDS)


def changed_offsets(offsets: Offsets, changes: str, masks: Masks | None = None) -> Offsets:
    """As `changed`, of what positions were optimised by. Raises FieldError for a change that fields
    alone can have: offsets do not say what is the camera's, or small.
    """
    for change in parsed(changes):
        if change.name not in OF_OFFSETS:
            raise FieldError(
                f"'{change.name}' is a change of motion fields, and the positions were optimised: "
                f"they can be {', '.join(OF_OFFSETS)}."
            )
    return _changed(offsets, changes, masks or {}, OF_OFFSETS)


def as_region(words: str) -> Change:
    """The change that keeps to a region, which is said in words: "0 0 0.5 1 moving", or "mask.png".
    Raises FieldError for other words.
    """
    try:
        (change,) = parsed(f"restricted {words}")
        _region(change)
    except ValueError:
        raise FieldError(
            f"the region {words!r:.80} is not {TAKES['restricted'][0]}: a name with spaces or "
            "commas stands in quotes inside."
        ) from None
    return change


def region_of(change: Change, masks: Masks, aspect: float) -> Arguments:
    """What `parted` takes of a region. Raises FieldError as `changed` does."""
    return _arguments(change, masks, aspect)


def pictures_in(changes: str) -> list[str]:
    """The names of the pictures that changes take as masks, each once."""
    return list(dict.fromkeys(change.picture for change in parsed(changes) if change.picture))


def renamed(changes: str, names: Mapping[str, str]) -> str:
    """The same changes with other names of their pictures, where there are others."""
    return ", ".join(
        str(change._replace(words=(names.get(change.picture, change.picture), *change.words[1:])))
        if change.picture
        else str(change)
        for change in parsed(changes)
    )


def parsed(changes: str) -> list[Change]:
    """Changes one by one. Raises FieldError for one that is not known, or takes more words, or
    fewer.
    """
    return list(_parsed(changes))


def _changed(motion: M, changes: str, masks: Masks, table: Mapping[str, Callable[..., M]]) -> M:
    for change in parsed(changes):
        motion = table[change.name](motion, **_arguments(change, masks, motion.aspect))
    return motion


def _arguments(change: Change, masks: Masks, aspect: float) -> Arguments:
    """What a change gives to its operation on a motion of such frames."""
    try:
        given = TAKES[change.name][2](change)
    except ValueError as error:
        raise _other(change) from error
    if change.picture:
        if change.picture not in masks:
            raise FieldError(f"the mask {change.picture!r:.200} is not among the masks given.")
        region = _fitting(change.picture, masks[change.picture], aspect)
        return {**given, "region": region}
    return given


def _parsed(changes: str) -> Iterator[Change]:
    for name, *words in _split(changes):
        if name not in TAKES:
            given = " ".join([name, *words])
            raise FieldError(f"unknown change {given!r:.80} of a motion; there are {_known()}.")
        change, (_, number, _) = Change(name, tuple(words)), TAKES[name]
        other = len(words) == 2 and name == "restricted" and words[1] != "moving"
        if len(words) not in number or other:
            raise _other(change)
        yield change


def _split(changes: str) -> Iterator[list[str]]:
    """The words of each change. Quotes keep spaces and commas together; "\\" is a character."""
    lexer = shlex.shlex(changes, posix=True, punctuation_chars=",")
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
    words: list[str] = []
    try:
        for token in lexer:
            if token.strip(",") or not token:
                words.append(token)
            elif words:
                yield words
                words = []
    except ValueError:
        raise FieldError(
            f"a quote does not end in the changes {changes!r:.80} of a motion: end it, and put a "
            "name that has a quote in it into quotes of the other kind."
        ) from None
    if words:
        yield words


def _quoted(word: str) -> str:
    """A word as `_split` reads it."""
    plain = word and not set(word) & set(" \t\r\n,'\"")
    mark = "'" if '"' in word else '"'
    return word if plain else f"{mark}{word}{mark}"


def _fitting(name: str, mask: Tensor, aspect: float) -> Tensor:
    """A mask that is to be stretched to frames of an aspect. Raises FieldError for one that is of
    another picture, and warns of one that is stretched.
    """
    rows, columns = mask.shape
    stretch = columns / rows / aspect
    told = (
        f"the mask {name} has {rows} x {columns} pixels, and the motion's frames are {aspect:.3g} "
        "times as wide as high"
    )
    if not 1 / STRETCH <= stretch <= STRETCH:
        raise FieldError(f"{told}: draw it on a frame of the clip, or of the video.")
    if abs(stretch - 1) > 1.5 / min(rows, columns):  # more than by whole pixels
        warn(f"{told}: it is stretched to them, as clips are.")
    return mask


def _other(change: Change) -> FieldError:
    takes = TAKES[change.name][0] or "nothing"
    return FieldError(
        f"a change of a motion is {str(change)!r:.80}, but {change.name} takes {takes}."
    )


def _known() -> str:
    return ", ".join(f"{name} {takes}".strip() for name, (takes, _, _) in TAKES.items())
