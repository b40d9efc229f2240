"""Failure: why a clip has no entry, and how often that was tried."""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import asdict, dataclass

from ditflow.bank.errors import BankError, BankStorageError
from ditflow.bank.records import is_name
from ditflow.bank.storage import Folder
from ditflow.bank.validation import (
    Check,
    canonical_json,
    integer,
    iso_date,
    normal,
    strict_json,
    text,
)

FIELDS: dict[str, Check] = {
    "reason": text(1 << 12),
    "attempts": integer(1, 1 << 30),
    "date": iso_date,
}


@dataclass(frozen=True)
class Failure:
    """Attributes: reason: one sentence. attempts: how often the clip failed. date: ISO 8601, of the
    last time.
    """

    reason: str
    attempts: int
    date: str


@dataclass(frozen=True)
class Failures:
    """The files `failed/<name>.json` of a bank."""

    folder: Folder

    def mark(self, name: str, reason: str) -> None:
        """Note a failure with its reason, and count it."""
        if not is_name(name):
            raise BankError(f"{name!r:.200} cannot name an entry, so its failure cannot be noted.")
        before = self._read(name)
        plain = reason.encode(errors="replace").decode()[: 1 << 12]
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        failure = Failure(plain, before.attempts + 1 if before else 1, now)
        self.folder.write(_path(name), [canonical_json(asdict(failure)).encode()])

    def forget(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.folder.remove(_path(name))

    def all(self) -> dict[str, Failure]:
        """Sorted by name."""
        names = sorted(
            file.removesuffix(".json")
            for file in self.folder.listing("failed")
            if file.endswith(".json")
        )
        return {name: failure for name in names if is_name(name) and (failure := self._read(name))}

    def _read(self, name: str) -> Failure | None:
        try:
            with self.folder.open(_path(name)) as (file, _):
                return Failure(**normal(FIELDS, strict_json(file.read(1 << 16).decode())))
        except FileNotFoundError:
            return None
        except BankStorageError:
            raise
        except ValueError as error:
            return Failure(f"the record of its failure cannot be read: {error}", 1, "")


def _path(name: str) -> str:
    return f"failed/{name}.json"
