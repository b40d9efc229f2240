"""Which clips a bank was asked for. Entries say what is done; only this says what "all" is."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from ditflow.bank.errors import BankStorageError
from ditflow.bank.records import is_name
from ditflow.bank.storage import Folder
from ditflow.bank.validation import Check, canonical_json, many, normal, strict_json, text

FIELDS: dict[str, Check] = {"clips": many(text(128), 1, 1 << 24)}


@dataclass(frozen=True)
class Requests:
    """The files `asked/<sum of the names>.json` of a bank: one for each list of clips that a run
    was given, gone when all of them are entries.
    """

    folder: Folder

    def note(self, names: Collection[str]) -> None:
        """Keep a list of clips. The same clips are noted once, however often the command is run
        again.
        """
        content = canonical_json({"clips": sorted(names)}).encode()
        file = f"{hashlib.sha256(content).hexdigest()[:16]}.json"
        if names and file not in self.folder.listing("asked"):
            self.folder.write(f"asked/{file}", [content])

    def names(self) -> set[str]:
        """All clips that are noted."""
        return set().union(*self._lists().values())

    def settle(self, done: Collection[str]) -> None:
        """Forget the lists whose clips are all done."""
        for file, names in self._lists().items():
            if names <= set(done):
                with contextlib.suppress(FileNotFoundError):
                    self.folder.remove(f"asked/{file}")

    def _lists(self) -> dict[str, set[str]]:
        files = (file for file in self.folder.listing("asked") if file.endswith(".json"))
        return {file: names for file in files if (names := self._read(file))}

    def _read(self, file: str) -> set[str]:
        """Empty for a list that is gone or cannot be read: what it asked for is not known any
        more.
        """
        try:
            with self.folder.open(f"asked/{file}") as (stream, _):
                return {
                    name
                    for name in normal(FIELDS, strict_json(stream.read(1 << 28).decode()))["clips"]
                    if is_name(name)
                }
        except BankStorageError:
            raise
        except (FileNotFoundError, ValueError):
            return set()
