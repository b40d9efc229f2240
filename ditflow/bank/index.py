"""The index: one short row per entry, derived from the entries and never trusted over them: a row serves while its file keeps size and mark."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ditflow.bank.checks import Check, integer, many, normal, number, text
from ditflow.bank.metadata import EntryMetadata
from ditflow.bank.strict import canonical_json, strict_json

SCHEMA = 1
FIELDS: dict[str, Check] = {
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
    "problem": text(1 << 16),
}


@dataclass(frozen=True)
class IndexRow:
    """An entry at a glance.

    Attributes:
        size: bytes of its file. mark: changes when the file does, or "". guided: number of guided steps. loss: the last one.
        problem: why the entry's header cannot be read, or "".
    """

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
    problem: str = ""

    @classmethod
    def of(cls, metadata: EntryMetadata, size: int, mark: str) -> IndexRow:
        loss = next((curve[-1] for curve in reversed(metadata.losses) if curve), 0.0)
        same = {name: getattr(metadata, name) for name in ("backbone", "variable", "grid", "clip", "prompt", "date")}
        return cls(size, mark, guided=len(metadata.timesteps), loss=loss, **same)


def parse_index(text: str) -> dict[str, IndexRow]:
    """The rows of an index file. ValueError if it is none; rows that are none are left out, for the entries will tell."""
    table = strict_json(text)
    if table.get("schema") != SCHEMA or not isinstance(table.get("entries"), dict):
        raise ValueError("it is no index")
    return {name: row for name, values in table["entries"].items() if (row := _row(values)) is not None}


def index_text(rows: dict[str, IndexRow]) -> str:
    return canonical_json({"schema": SCHEMA, "entries": {name: asdict(row) for name, row in rows.items()}})


def _row(values: Any) -> IndexRow | None:
    try:
        return IndexRow(**normal(FIELDS, values))
    except (TypeError, ValueError):
        return None
