"""What a push takes along: sound entries that name no place on this machine, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ditflow.bank import BankError, EntryError, IndexRow, MotionBank

# fields that people write as prose; everywhere else what looks like a path is one
PROSE = "prompt", "negative_prompt", "caption", "subject", "caption_subject", "words", "tags"
PLACE = re.compile(r"(?:^|\s)(?:/\S|~\S*/|[A-Za-z]:[\\/])")  # absolute, of any system


def stage(bank: MotionBank, folder: str) -> MotionBank:
    """A bank in an empty folder, of the same entries and without all else. Raises BankError for an
    entry that is damaged or names a place on this machine, and where there is none.
    """
    if not len(bank):
        raise BankError(f"{bank.path} has no entries to push: fit some first.")
    staged = MotionBank(folder, create=True)
    for name in bank:
        bank.copy_to(name, staged)
        staged.check(name)
        for field, text in _texts(staged.metadata(name).as_dict()):
            if PLACE.search(text):
                raise BankError(
                    f"Entry {name!r} names a place on this machine: its {field} is {text!r:.200}. "
                    "Fit it by a hub id or a relative path, or `ditflow bank export` the others "
                    "and push those."
                )
    return staged


def new_rows(
    staged: MotionBank,
    there: MotionBank | None,
    known: Mapping[str, IndexRow],
    *,
    overwrite: bool,
) -> dict[str, IndexRow]:
    """By name, the entries that the bank on the hub does not hold, as rows of its index. `known`
    are those that it holds, if it is there. Raises BankError where it holds another entry of that
    name, unless it is to be overwritten.
    """
    rows = {}
    for row in staged.index():
        sha256 = hashlib.sha256(entry_file(staged, row.name).read_bytes()).hexdigest()
        fresh = replace(row, mark=sha256)  # by which the hub marks a large file
        if there is not None and row.name in known:
            if known[row.name].mark == sha256 or _is_same(row.name, staged, there):
                continue
            if not overwrite:
                raise BankError(
                    f"The dataset already holds another entry {row.name!r}: nothing was pushed. "
                    "Take another name, or replace it with --overwrite; the hub keeps its history."
                )
        rows[row.name] = fresh
    return rows


def entry_file(staged: MotionBank, name: str) -> Path:
    return Path(staged.path, "entries", f"{name}.safetensors")


def _is_same(name: str, one: MotionBank, other: MotionBank) -> bool:
    with contextlib.suppress(EntryError):
        return one.content_hash(name) == other.content_hash(name)
    return False


def _texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """All text in metadata that is no prose, each with its field."""
    left = [(field, value) for field, value in values.items() if field not in PROSE]
    while left:
        field, value = left.pop()
        if isinstance(value, str):
            yield field, value
        elif isinstance(value, dict):
            left += [(field, item) for item in value.values()]
        elif isinstance(value, list | tuple):
            left += [(field, item) for item in value]
