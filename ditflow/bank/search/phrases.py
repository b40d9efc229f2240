"""Phrases: what words say about a motion, so that entries can be found by them.

One grammar reads both what `ditflow.fields.described` says of a clip and what a person asks for:
"pans left slowly; one thing moves up" and "slow pan left, subject moves up" are the same phrases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ditflow.bank.errors import BankError

SIDES = ("left", "right", "up", "down")
OPPOSITE = {"clockwise": "counterclockwise", "counterclockwise": "clockwise"}
WAYS = {
    "pan": SIDES[:2],
    "tilt": SIDES[2:],
    "zoom": ("in", "out"),
    "roll": tuple(OPPOSITE),
    "thing": SIDES,
}
PACED = ("pan", "tilt", "zoom", "roll")
LESS = 0.5  # what a match is worth for each thing that is asked for and is otherwise


def _table(**forms: str) -> Mapping[str, str]:
    """The meaning of each form of a word."""
    return {form: meaning for meaning, many in forms.items() for form in many.split()}


KINDS = _table(
    pan="pan pans panning",
    tilt="tilt tilts tilting",
    zoom="zoom zooms zooming",
    roll="roll rolls rolling",
    turn="turn turns turning rotate rotates rotating",  # the picture, and the camera the other way
    thing="thing things subject subjects object objects something",
    camera="camera",  # that moves left pans left
    still="still static",
    back="comes returns",
)
SAME = {way: way for ways in WAYS.values() for way in ways}
PACES = _table(slow="slow slowly", fast="fast quick quickly")
NUMBERS = _table(one="one", several="two three four five several many")
FILLERS = frozenset("the a an picture is are and then it its move moves moving back".split())
KNOWN = (
    "pan left or right, tilt up or down, zoom in or out, roll clockwise or counterclockwise, each "
    "slow or fast; one thing, two things or many things move left, right, up or down; camera "
    "still; comes back"
)


@dataclass(frozen=True)
class Phrase:
    """One motion.

    Attributes:
        kind: pan, tilt, zoom, roll, thing, still, or back for a motion that comes back.
        ways: where to; empty for any.
        pace: slow or fast; "" for any that is asked for, and for one between them that is found.
        number: of things, one or several; "" for any.
    """

    kind: str
    ways: frozenset[str] = frozenset()
    pace: str = ""
    number: str = ""

    @property
    def spelled(self) -> tuple[str, ...]:
        """By which phrases are sorted: sets of strings have another order in each process."""
        return self.kind, self.pace, self.number, *sorted(self.ways)

    def met(self, found: Phrase) -> float:
        """How far a motion is what this phrase asks for: 1 in all, 0 for another motion or
        way."""
        if self.kind != found.kind or (self.ways and not self.ways & found.ways):
            return 0.0
        others = [
            not self.ways <= found.ways,
            self.pace not in ("", found.pace),
            self.number not in ("", found.number),
        ]
        return float(LESS ** sum(others))


def asked(words: str) -> frozenset[Phrase]:
    """The phrases of what a person asks for. Raises BankError that names a word that is not
    understood, or a phrase that says nothing, and lists what is."""
    phrases = frozenset(_read(words))
    if not phrases:
        raise BankError(f"The words {words!r:.80} ask for no motion. Known are: {KNOWN}.")
    return phrases


def told(words: str) -> frozenset[Phrase]:
    """The phrases of what an entry says; none of what is not understood, which strangers write."""
    try:
        return frozenset(_read(words))
    except BankError:
        return frozenset()


def agreement(wanted: frozenset[Phrase], found: frozenset[Phrase]) -> float:
    """How well the phrases found are those wanted, from 0 to 1, as Dice's coefficient: twice the
    matches in the number of phrases of both. 1 is all that is wanted and nothing else."""
    pairs = ((one.met(other), one, other) for one in wanted for other in found)
    order = sorted(
        (pair for pair in pairs if pair[0]),
        key=lambda pair: (-pair[0], pair[1].spelled, pair[2].spelled),
    )
    met, taken, used = 0.0, set[Phrase](), set[Phrase]()
    for share, one, other in order:  # the best first
        if one not in taken and other not in used:
            met += share
            taken.add(one)
            used.add(other)
    return 2 * met / max(len(wanted) + len(found), 1)


def _read(words: str) -> Iterator[Phrase]:
    for part in re.split(r"[,;.]", words.lower()):
        yield from _read_part(part)


@lru_cache(1 << 12)
def _read_part(part: str) -> tuple[Phrase, ...]:
    return tuple(phrase for clause in _clauses(part.split()) for phrase in _phrases(clause))


def _clauses(part: list[str]) -> list[list[str]]:
    """A part of a sentence, cut at each "and" after which another motion is named."""
    clauses: list[list[str]] = [[]]
    for word in part:
        if word == "and":
            clauses.append([])
        else:
            clauses[-1].append(word)
    joined: list[list[str]] = []
    for clause in clauses:
        if joined and not any(word in KINDS for word in clause):
            joined[-1] += clause
        else:
            joined.append(clause)
    return joined


def _phrases(clause: list[str]) -> Iterator[Phrase]:
    """What one clause says. A camera that moves up and left both tilts and pans."""
    said: dict[str, list[str]] = {"kind": [], "way": [], "pace": [], "number": []}
    for word in clause:
        if word not in FILLERS:
            what, meaning = _meaning(word)
            said[what].append(meaning)
    if not any(said.values()):
        return
    kind = _kind(clause, set(said["kind"]))
    pace, number = ("".join(said[what][-1:]) for what in ("pace", "number"))
    ways = said["way"]
    if kind in ("pan", "tilt", "camera") and ways:
        kinds = {way: next((k for k in ("pan", "tilt") if way in WAYS[k]), "") for way in ways}
        for way, side in kinds.items():
            yield _checked(Phrase(side or kind, frozenset([way]), pace, number))
    elif kind == "turn":
        seen = frozenset(OPPOSITE.get(way, way) for way in ways)
        yield _checked(Phrase("roll", seen, pace, number))
    else:
        yield _checked(Phrase(kind, frozenset(ways), pace, number))


def _kind(clause: list[str], kinds: set[str]) -> str:
    """The one kind of motion that a clause names; "" for none. The camera is still, pans, tilts,
    zooms or rolls. Raises BankError for two kinds.
    """
    if kinds & {"still", *PACED}:
        kinds = kinds - {"camera"}
    if len(kinds) > 1:
        raise BankError(
            f"The words {' '.join(clause)!r:.80} name two kinds of motion; separate motions by "
            f"commas. Known are: {KNOWN}."
        )
    return "".join(kinds)


def _meaning(word: str) -> tuple[str, str]:
    """What a word tells, and its meaning. Raises BankError for one that is not known."""
    for what, table in (("kind", KINDS), ("way", SAME), ("pace", PACES), ("number", NUMBERS)):
        if word in table:
            return what, table[word]
    raise BankError(f"The word {word!r:.80} is not understood. Known are: {KNOWN}.")


def _checked(phrase: Phrase) -> Phrase:
    """The phrase. Raises BankError for ways, a pace or a number that do not go with its kind."""
    kind, fits = phrase.kind, phrase.ways <= set(WAYS.get(phrase.kind, ()))
    counted = kind == "thing" or not phrase.number
    paced = kind in PACED or not phrase.pace
    if kind in ("", "camera") or not (fits and counted and paced):
        said = " ".join([phrase.number, kind, *sorted(phrase.ways), phrase.pace]).split()
        raise BankError(
            f"The words {' '.join(said)!r} name no motion; separate motions by commas. "
            f"Known are: {KNOWN}."
        )
    return phrase
