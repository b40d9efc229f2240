"""MotionBank: a folder of entries as a mapping. The entries are the truth; the index is derived, and the in-flight records are the checkpoint.

    bank/entries/<name>.safetensors     published entries
    bank/inflight/<key>.safetensors     states of unfinished batches
    bank/failed/<name>.json             why a clip failed, and how often
    bank/asked/<sum>.json               clips that were wanted and are not all there yet
    bank/index.json                     derived from the entries by `reindex`

Every write is whole or absent, so a process may be killed at any moment and others may read at any moment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from ditflow.bank.asked import Asked
from ditflow.bank.entry import KIND, BankEntry, checked_metadata
from ditflow.bank.errors import BankError, EntryError, UnknownEntryError
from ditflow.bank.failures import Failure, Failures
from ditflow.bank.folders import open_folder
from ditflow.bank.header import checked_chunks
from ditflow.bank.index import IndexRow, index_text, parse_index
from ditflow.bank.metadata import EntryMetadata
from ditflow.bank.record import read_tensors
from ditflow.bank.shelf import Shelf

if TYPE_CHECKING:
    from torch import Tensor

INFLIGHT = "ditflow in-flight record"
INDEX = "index.json"
MARKS = ("entries", INDEX, "inflight", "failed")


class MotionBank(MutableMapping[str, BankEntry]):
    """Entries by name, in a local folder or at any fsspec URL.

    Args:
        path: the bank's folder or URL.
        create: take a path where no bank is; its folder is made by the first write.
    Raises: BankError when there is no bank at the path. Looking up what is not there raises UnknownEntryError, which is a KeyError;
        an entry that is damaged raises EntryError; a disk that refuses, BankStorageError.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False) -> None:
        self.path = os.fspath(path)
        self._folder = open_folder(self.path)
        self._entries = Shelf(self._folder, "entries", "entry", KIND)
        self._inflight = Shelf(self._folder, "inflight", "in-flight record", INFLIGHT)
        self._failures = Failures(self._folder)
        self.asked = Asked(self._folder)
        if not create and not any(self._folder.exists(mark) for mark in MARKS):
            found = "it holds no entries, index.json, inflight or failed" if self._folder.exists() else "there is nothing of that name"
            raise BankError(f"{self.path} is not a motion bank: {found}. Name the folder that was given to `fit` as its bank.")

    def __repr__(self) -> str:
        return f"MotionBank({self.path!r})"

    def __getitem__(self, name: str) -> BankEntry:
        with self._entries.open(name) as (file, header):
            return BankEntry.read(file, header)

    def __setitem__(self, name: str, entry: BankEntry) -> None:
        self.put(name, entry)

    def __delitem__(self, name: str) -> None:
        self._entries.remove(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries.listing())

    def __len__(self) -> int:
        return len(self._entries.listing())

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def put(self, name: str, entry: BankEntry, *, overwrite: bool = False) -> None:
        """Publish an entry, and forget that its clip ever failed. An existing entry is refused unless overwrite is true."""
        if not overwrite and name in self:
            raise BankError(f"{self.path} already holds an entry {name!r}. Take another name, or bank.put(name, entry, overwrite=True).")
        self._entries.write(name, entry.metadata.as_dict(), entry.tensors())
        self._failures.forget(name)

    def metadata(self, name: str) -> EntryMetadata:
        """Provenance of an entry, by its header alone."""
        with self._entries.open(name) as (_, header):
            return checked_metadata(header)

    def keeps_reference(self, name: str) -> bool:
        """Whether an entry has the clip's latents, for key and value injection; by its header alone."""
        with self._entries.open(name) as (_, header):
            checked_metadata(header)
            return "reference_latents" in header.slots

    def check(self, name: str) -> None:
        """Read all of an entry with flat memory and without torch. Raises EntryError if anything does not fit."""
        with self._entries.open(name) as (file, header):
            checked_metadata(header)
            for _ in checked_chunks(file, header):
                pass

    def verify(self) -> list[str]:
        """One sentence for each entry or record that is damaged and each file that is none; an empty list when all is well."""
        strangers = [f"{file} is a file that no entry can have." for file in self._entries.strangers()]
        return [*_problems(self.check, self), *_problems(self._check_inflight, self.inflight()), *strangers]

    def index(self) -> dict[str, IndexRow]:
        """A row for each entry, sorted by name. Rows of index.json serve where the files have not changed; nothing is written."""
        known = self._read_index()
        listing = self._entries.listing()
        fresh = {name: row for name, row in known.items() if row.mark and listing.get(name) == (row.size, row.mark)}
        return {name: fresh.get(name) or self._row(name, size, mark) for name, (size, mark) in listing.items()}

    def reindex(self) -> dict[str, IndexRow]:
        """Write index.json anew from the entries."""
        rows = self.index()
        self._folder.write(INDEX, [index_text(rows).encode()])
        return rows

    def save_inflight(self, key: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Write or replace the state of an unfinished batch. The key is formed like an entry's name; metadata are plain JSON values."""
        self._inflight.write(key, metadata, tensors)

    def load_inflight(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and metadata of an unfinished batch, or None if there are none. Raises EntryError when they are damaged."""
        with contextlib.suppress(UnknownEntryError), self._inflight.open(key) as (file, header):
            return read_tensors(file, header), header.metadata
        return None

    def inflight_metadata(self, key: str) -> dict[str, Any] | None:
        """Metadata of an unfinished batch by its header alone, or None if there are none. Needs no torch."""
        with contextlib.suppress(UnknownEntryError), self._inflight.open(key) as (_, header):
            return header.metadata
        return None

    def drop_inflight(self, key: str) -> None:
        """Remove the state of a batch that is finished, if there is one."""
        with contextlib.suppress(UnknownEntryError):
            self._inflight.remove(key)

    def inflight(self) -> list[str]:
        """Sorted keys of the unfinished batches."""
        return list(self._inflight.listing())

    def mark_failed(self, name: str, reason: str) -> None:
        """Note that a clip could not be done, with the reason in one sentence; counts how often."""
        self._failures.mark(name, reason)

    def failures(self) -> dict[str, Failure]:
        """Clips that failed and have had no entry since, sorted by name."""
        return self._failures.all()

    def _check_inflight(self, key: str) -> None:
        with self._inflight.open(key) as (file, header):
            for _ in checked_chunks(file, header):
                pass

    def _row(self, name: str, size: int, mark: str) -> IndexRow:
        try:
            return IndexRow.of(self.metadata(name), size, mark)
        except (EntryError, UnknownEntryError) as error:
            return IndexRow(size, mark, problem=str(error))

    def _read_index(self) -> dict[str, IndexRow]:
        with contextlib.suppress(FileNotFoundError, ValueError), self._folder.open(INDEX) as (file, _):
            return parse_index(file.read().decode())
        return {}


def _problems(check: Callable[[str], None], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            check(name)
        except EntryError as error:
            yield str(error)
        except UnknownEntryError:  # removed by another process since it was listed
            continue
