"""One self-contained page: videos side by side that play together, their motion as colours, tables
that sort and curves; nothing is fetched from anywhere.

The markup is in `templates/`. Everything given here is text, numbers or the bytes of files: the
templates escape it all, no data goes into a script, and the page's policy runs no other script than
ours and asks no other place for anything.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from ditflow.files import atomic_file
from ditflow.visual.curves import Chart, Curve, Mark

COLOURS = 16  # that page.css gives to marks; after these they come again


@dataclass(frozen=True)
class Cell:
    """A table's cell. `value` sorts it (None last), `share` in 0..1 draws a bar, `target` is the
    anchor of a section to go to; the `note` is small.
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
    """Rows have as many cells as there are columns, and the first cell names its row. A column may
    explain itself in `hints`.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A PNG file. With `tiles`, that many pictures side by side are shown one after the other, in
    the video's time.
    """

    label: str
    png: bytes
    tiles: int = 1


@dataclass(frozen=True)
class Panel:
    """One video, an mp4 file, and what is known of it; `problem` says why there is none. All but
    the first `shown` of the `numbers` fold away.
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
    """Panels that share a prompt; `kind` is what a reader may choose among. `anchor` is its address
    inside the page.
    """

    panels: tuple[Panel, ...]
    prompt: str = ""
    kind: str = ""
    anchor: str = ""


@dataclass(frozen=True)
class Section:
    """A reference and the videos that are to move like it. `anchor` is its address inside the
    page.
    """

    heading: str
    anchor: str
    reference: Panel
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Page:
    """All that a page shows, from top to bottom. Sections may come one by one: only one of them is
    in memory at a time.

    Of the `kinds` of groups one is shown at first, `kind`, or all where that is empty.
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
    labels: tuple[tuple[str, Mark | None], ...] = ()  # of panels, among which a reader may choose
    appendix: tuple[Table, ...] = ()


def write_page(path: str | os.PathLike[str], page: Page) -> int:
    """Write a page as UTF-8, at once or not at all; an older page of that name is replaced. Returns
    its bytes.
    """
    with atomic_file(path) as file:
        return sum(file.write(chunk.encode()) for chunk in _template().generate(page=page))


@cache
def _template() -> Template:
    folder = files("ditflow.visual") / "templates"
    script, style = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.js", "page.css")
    )
    environment = Environment(
        loader=PackageLoader("ditflow.visual"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        enable_async=False,
    )
    environment.filters |= {"data": _data, "mark": _mark, "number": _number}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment.globals |= {
        "script": Markup(script),
        "style": Markup(style),
        "script_sha256": digest,
    }
    return environment.get_template("page.html")


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _mark(mark: Mark | None) -> str:
    return "" if mark is None else f"c{mark.colour % COLOURS}" + " dashed" * mark.dashed


def _number(value: float | None) -> str:
    """For a script to sort by: nothing where there is no number."""
    return "" if value is None or not math.isfinite(value) else repr(value)
