"""A gallery: one page of thousands of motions, each with a film that loops, to filter and to sort.

The films are files beside the page, which a browser reads when they come into sight. Cards out of
sight are not laid out. `rendering.py` writes the page, and escapes all that it is given.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from ditflow.visual.curves import Curve
from ditflow.visual.page import Panel
from ditflow.visual.rendering import write_rendered


@dataclass(frozen=True)
class Film:
    """A picture file with `tiles` moments side by side, which are shown one after the other: above
    the motion, below its colours. `aspect` is width / height of a tile.
    """

    file: str  # relative to the page
    tiles: int
    aspect: float


@dataclass(frozen=True)
class Card:
    """One entry. `measures` are what cards are sorted by, by the key of an `Order`; a card without
    a measure comes last. `note` says what is missing where there is no film.
    """

    name: str
    words: str = ""
    told: tuple[str, ...] = ()  # what is known, a line each; found by its words as the rest
    film: Film | None = None
    curve: Curve | None = None
    note: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)
    numbers: tuple[tuple[str, str], ...] = ()
    settings: str = ""  # folded away
    command: str = ""


@dataclass(frozen=True)
class Order:
    """A way to sort cards: by a measure, the highest first or the lowest."""

    key: str  # letters a to z
    label: str
    highest_first: bool = True


@dataclass(frozen=True)
class Gallery:
    """The content of the page. `problems` say what is left out, a sentence each."""

    title: str
    cards: tuple[Card, ...]
    orders: tuple[Order, ...] = ()
    legend: tuple[Panel, ...] = ()
    problems: tuple[str, ...] = ()


def write_gallery(path: str | os.PathLike[str], gallery: Gallery) -> int:
    """Write the page as UTF-8, completely or not at all. An existing file is replaced. Returns the
    number of bytes.

    Raises ModuleNotFoundError where jinja2 is not installed.
    """
    return write_rendered(path, "gallery", gallery=gallery)
