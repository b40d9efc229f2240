"""One self-contained page: videos side by side that play together, their motion as colours, tables
that sort, and curves.

A page holds text, numbers and the bytes of files. `rendering.py` writes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from ditflow.visual.curves import Chart, Curve, Mark
from ditflow.visual.rendering import write_rendered


@dataclass(frozen=True)
class Cell:
    """A cell of a table. Rows are sorted by `value`, None last. `share` in 0..1 draws a bar,
    `target` is the anchor that the cell links to, and `note` is small print.
    """

    text: str
    value: float | None = None
    share: float | None = None
    best: bool = False
    target: str = ""
    note: str = ""
    mark: Mark | None = None


@dataclass(frozen=True)
class Table:
    """A table. Each row has a cell for every column, and its first cell names the row. `hints` are
    tooltips of the columns.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A PNG file. If it holds several `tiles` side by side, they are shown one after the other
    while the video plays.
    """

    label: str
    png: bytes
    tiles: int = 1


@dataclass(frozen=True)
class Panel:
    """One video, an mp4 file, and what is known of it. `problem` says why the video is missing. The
    `numbers` after the first `shown` are folded away.
    """

    label: str
    video: bytes | None = None
    shape: tuple[int, int] = (1, 1)  # height and width, in pixels
    pictures: tuple[Picture, ...] = ()
    curve: Curve | None = None
    numbers: tuple[tuple[str, Cell], ...] = ()
    shown: int = 4
    notes: tuple[str, ...] = ()
    problem: str = ""
    mark: Mark | None = None


@dataclass(frozen=True)
class Group:
    """Panels with one prompt. A reader may choose among the kinds of groups. `anchor` is the
    group's address in the page.
    """

    panels: tuple[Panel, ...]
    prompt: str = ""
    kind: str = ""
    anchor: str = ""


@dataclass(frozen=True)
class Section:
    """A reference and the videos that should move like it. `anchor` is the address in the page."""

    heading: str
    anchor: str
    reference: Panel
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Page:
    """The content of a page, from top to bottom. Sections may come from a generator: only one of
    them is in memory at a time.

    The page first shows the groups of one kind, `kind`, or all groups if it is empty.
    """

    title: str
    sections: Iterable[Section]
    paragraphs: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    legend: tuple[Panel, ...] = ()
    kinds: tuple[str, ...] = ()
    kind: str = ""
    labels: tuple[tuple[str, Mark | None], ...] = ()  # panels that a reader may choose
    appendix: tuple[Table, ...] = ()


def write_page(path: str | os.PathLike[str], page: Page) -> int:
    """Write a page as UTF-8, completely or not at all. An existing file is replaced. Returns the
    number of bytes.

    Raises ModuleNotFoundError where jinja2 is not installed.
    """
    return write_rendered(path, "page", page=page)
