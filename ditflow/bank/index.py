"""The index: one short row per entry, derived from the entries and never trusted over them: a row
serves while its file keeps size and mark.

A file of one JSON value on each line, sorted by name, is read and written row by row: memory does
not grow with the bank.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from ditflow.bank.file_format import Header
from ditflow.bank.kinds import metadata_of
from ditflow.bank.kinds.base import shapes_of
from ditflow.bank.validation import (
    Check,
    canonical_json,
    integer,
    many,
    normal,
    number,
    strict_json,
    text,
)

FILE = "index.jsonl"
SCHEMA, LONGEST = {"schema": 3}, 1 << 20  # the first line; bytes of a line
FIELDS: dict[str, Check] = {
    "name": text(128),
    "size": integer(0, 1 << 62),
    "mark": text(256),
    "backbone": text(4096),
    "variable": text(64),
    "grid": many(integer(0, 1 << 16), 3, 3),
    "guided": integer(0, 1 << 16),
    "loss": number(-1e30, 1e30),
    "clip": text(4096),
    "prompt": text(1 << 16),
    "date": text(64),
    "words": text(1 << 16),
    "problem": text(1 << 16),
}


@dataclass(frozen=True)
class IndexRow:
    """An entry at a glance.

    Attributes:
        size: bytes of its file. mark: changes when the file does, or "".
        variable: what was optimised, or "instant" for a motion field, which has no backbone, guided
            steps or loss.
        grid: tokens, or cells of a field. guided: number of guided steps. loss: the last one.
        words: what a motion field does, in plain words.
        problem: why the entry's header cannot be read, or "".
    """

    name: str
    size: int
    mark: str
    backbone: str = ""
    variable: str = ""
    grid: tuple[int, int, int] = (0, 0, 0)
    guided: int = 0
    loss: float = 0.0
    clip: str = ""
    prompt: str = ""
    date: str = ""
    words: str = ""
    problem: str = ""

    @classmethod
    def of(cls, header: Header, size: int, mark: str) -> IndexRow:
        """Raises EntryError where the header does not describe an entry."""
        metadata = metadata_of(header)
        same = {field: getattr(metadata, field) for field in ("clip", "prompt", "date")}
        return cls(header.name, size, mark, **same, **metadata.glance(shapes_of(header)))


def parse_index(file: BinaryIO) -> Iterator[IndexRow]:
    """The rows of an index file up to the first line that is none: the entries will tell the
    rest.
    """
    lines = io.BufferedReader(file)  # type: ignore[type-var]
    try:
        if strict_json(lines.readline(LONGEST).decode()) != SCHEMA:
            return
        while line := lines.readline(LONGEST):
            yield _row(strict_json(line.decode()))
    except ValueError:
        return


def index_lines(rows: Iterable[IndexRow]) -> Iterator[bytes]:
    yield canonical_json(SCHEMA).encode() + b"\n"
    for row in rows:
        yield canonical_json(asdict(row)).encode() + b"\n"


def current(
    known: Iterator[IndexRow],
    listing: Mapping[str, tuple[int, str]],
    make: Callable[[str, int, str], IndexRow | None],
) -> Iterator[IndexRow]:
    """A row for each file of a sorted listing: a known one while the file is the same and could be
    read, else made anew. Known rows out of order are passed over.
    """
    row = next(known, None)
    for name, (size, mark) in listing.items():
        while row is not None and row.name < name:
            row = next(known, None)
        same = row is not None and (row.name, row.size, row.mark) == (name, size, mark)
        sound = row is not None and mark != "" and not row.problem
        fresh = row if same and sound else make(name, size, mark)
        if fresh is not None:
            yield fresh


def _row(values: dict[str, Any]) -> IndexRow:
    return IndexRow(**normal(FIELDS, values))
