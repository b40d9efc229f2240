"""Garbage: what killed runs leave in a bank and nothing will ever use. It is found here and removed
only by who asks for it.

Whatever was written lately is left alone: a lease that beats, a record that grows and a file that
is being written are all young.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ditflow.bank.bank import MotionBank
from ditflow.bank.errors import BankError, EntryError
from ditflow.bank.records import SUFFIX
from ditflow.bank.remote_storage import open_folder

LEASES = (
    "leases",
    "videos/leases",
)  # of clips, and of videos where they are made in their default folder
FOLDERS = (
    "",
    "entries",
    "inflight",
    "failed",
    "asked",
    "cache",
    "videos",
    *LEASES,
)  # cache and videos are written beside a bank by default
TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")


@dataclass(frozen=True)
class Garbage:
    """Attributes: path: of a file in the bank. reason: why nothing will use it."""

    path: str
    reason: str


def find_garbage(
    bank: MotionBank, hours: float = 24.0, *, unfinished: bool = False
) -> list[Garbage]:
    """Files that were not written for so many hours and that nothing will use; with `unfinished`,
    batches that nobody goes on with are among them.

    Raises BankError for less than an hour, in which a run may be alive and silent.
    """
    if not hours >= 1:
        raise BankError(
            f"Files of the last {hours:g} hours may be in use: nothing is garbage before an hour."
        )
    ages = {under: open_folder(bank.path).ages(under) for under in FOLDERS}
    old = {
        f"{under}/{file}".lstrip("/")
        for under, files in ages.items()
        for file, age in files.items()
        if age >= 3600 * hours
    }
    held = {file.rpartition(".")[0] for file in ages["leases"] if f"leases/{file}" not in old}
    return [
        *_temporary(old),
        *_leases(old),
        *_failures(bank),
        *_inflight(bank, old, held, unfinished=unfinished),
    ]


def remove_garbage(bank: MotionBank, garbage: list[Garbage]) -> None:
    """Remove what was found, in that order. What is gone already is no error."""
    folder = open_folder(bank.path)
    for piece in garbage:
        with contextlib.suppress(FileNotFoundError):
            folder.remove(piece.path)


def _temporary(old: set[str]) -> Iterator[Garbage]:
    for path in sorted(old):
        if TEMPORARY.fullmatch(path.rpartition("/")[2]):
            yield Garbage(path, "a write that was never finished")


def _leases(old: set[str]) -> Iterator[Garbage]:
    """Oldest generation first, so that none of them holds again."""
    for path in sorted(
        (path for path in old if path.rpartition("/")[0] in LEASES and not TEMPORARY.search(path)),
        key=_generation,
    ):
        yield Garbage(path, "a lease whose holder is dead")


def _generation(path: str) -> tuple[str, int]:
    key, _, number = path.rpartition(".")
    return key, int(number) if number.isdecimal() else 0


def _failures(bank: MotionBank) -> Iterator[Garbage]:
    """A clip that has its entry failed no more: whoever published it was killed before it said
    so.
    """
    for file in sorted(open_folder(bank.path).listing("failed")):
        if file.endswith(".json") and file.removesuffix(".json") in bank:
            yield Garbage(f"failed/{file}", "a failure of a clip that has an entry since")


def _inflight(
    bank: MotionBank, old: set[str], held: set[str], *, unfinished: bool
) -> Iterator[Garbage]:
    """A record says in its `names` which entries it will become; one without is a part of the
    record whose key it continues after a dot.
    """
    keys = sorted(
        bank.inflight(), reverse=True
    )  # parts before their record, so that a record is never without them
    reasons = {
        key: _useless(bank, key, held, unfinished=unfinished) if _path(key) in old else ""
        for key in keys
    }
    for key in keys:
        reason = reasons[key]
        if reason is None:
            reason = reasons.get(key.rpartition(".")[0], "a part of a batch that is gone")
        if reason:
            yield Garbage(_path(key), reason)


def _useless(bank: MotionBank, key: str, held: set[str], *, unfinished: bool) -> str | None:
    """Why nothing will use a record: "" if something may, None if it is a part, to be judged by its
    record.
    """
    try:
        names = (bank.inflight_metadata(key) or {}).get("names")
    except EntryError:
        return "a state that is damaged"
    if not isinstance(names, list):
        return None
    if held & {key, *map(str, names)}:
        return ""
    if all(name in bank for name in names):
        return "a state of clips that are all in the bank"
    return "a state that nobody goes on with" if unfinished else ""


def _path(key: str) -> str:
    return f"inflight/{key}{SUFFIX}"
