"""MotionBank: a folder of entries as a mapping. The entries are the truth; the index is derived,
and the in-flight records are the checkpoint.

    bank/entries/<name>.safetensors     published entries
    bank/inflight/<key>.safetensors     states of unfinished batches
    bank/failed/<name>.json             why a clip failed, and how often
    bank/asked/<sum>.json               clips that were wanted and are not all there yet
    bank/index.jsonl                    derived from the entries by `reindex`
    bank/search.safetensors             derived from the entries by `reindex` and `search`

Every write is whole or absent, so a process may be killed at any moment and others may read at any
moment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from ditflow.bank.errors import BankError, BankStorageError, EntryError, UnknownEntryError
from ditflow.bank.failures import Failure, Failures
from ditflow.bank.file_format import read_tensors
from ditflow.bank.index import FILE, IndexRow, current, index_lines, parse_index
from ditflow.bank.kinds import (
    KINDS,
    AnyEntry,
    AnyMetadata,
    check_entry,
    content_hash,
    metadata_of,
    read_entry,
    read_motion,
)
from ditflow.bank.records import Records, read_all
from ditflow.bank.remote_storage import open_folder
from ditflow.bank.requests import Requests
from ditflow.bank.search import rows
from ditflow.bank.search.find import Found, find

if TYPE_CHECKING:
    from torch import Tensor

    from ditflow.fields.field import MotionField

INFLIGHT = "ditflow in-flight record"
MARKS = ("entries", "inflight", "failed", "asked", FILE)


class MotionBank(MutableMapping[str, AnyEntry]):
    """Entries of every kind by name, in a local folder or at any fsspec URL.

    Args:
        path: the bank's folder or URL.
        create: take a path where no bank is; its folder is made by the first write.
    Raises: BankError when there is no bank at the path. Looking up what is not there raises
    UnknownEntryError, which is a KeyError;
        an entry that is damaged raises EntryError; a disk that refuses, BankStorageError.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False) -> None:
        self.path = os.fspath(path)
        self._folder = open_folder(self.path)
        self._entries = Records(self._folder, "entries", "entry", tuple(KINDS))
        self._inflight = Records(self._folder, "inflight", "in-flight record", (INFLIGHT,))
        self._failures = Failures(self._folder)
        self.requests = Requests(self._folder)
        if not create and not any(self._folder.exists(mark) for mark in MARKS):
            found = (
                f"it holds no {', '.join(MARKS[:-1])} or {MARKS[-1]}"
                if self._folder.exists()
                else "there is nothing of that name"
            )
            raise BankError(
                f"{self.path} is not a motion bank: {found}. Name the folder that was given to "
                "`fit` as its bank."
            )

    def __repr__(self) -> str:
        return f"MotionBank({self.path!r})"

    def __getitem__(self, name: str) -> AnyEntry:
        return self._entries.read(name, read_entry)

    def __setitem__(self, name: str, entry: AnyEntry) -> None:
        self.put(name, entry)

    def __delitem__(self, name: str) -> None:
        self._entries.remove(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries.listing())

    def __len__(self) -> int:
        return len(self._entries.listing())

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def put(self, name: str, entry: AnyEntry, *, overwrite: bool = False) -> None:
        """Publish an entry, and forget that its clip ever failed. Another entry of that name is
        refused unless overwrite is true.

        Of several processes that publish different entries under one name at the same time, one
        succeeds.
        """
        record = name, entry.KIND, entry.metadata.as_dict(), entry.tensors()
        if overwrite:
            self._entries.write(*record)
        elif name in self or not self._entries.create(*record):
            self._check_same(name, entry.content_hash)
        self._failures.forget(name)

    def copy_to(self, name: str, target: MotionBank, *, dry_run: bool = False) -> bool:
        """Copy an entry's file, with flat memory and without torch. False if the target holds the
        same already; BankError if it holds another.
        """
        content = self.content_hash(name)
        if dry_run and name not in target:
            self.check(name)
        elif name in target or not self._entries.copy(name, target._entries):
            target._check_same(name, content)
            return False
        else:
            target._failures.forget(name)
        return True

    def content_hash(self, name: str) -> str:
        """As `content_hash` of the entry, by the header alone."""
        return self._entries.read(name, lambda _, header: content_hash(header))

    def metadata(self, name: str) -> AnyMetadata:
        """Provenance of an entry, by its header alone."""
        return self._entries.read(name, lambda _, header: metadata_of(header))

    def motion(self, name: str) -> MotionField | None:
        """The clip's motion in an entry of any kind, or None where it keeps none."""
        kept = self._entries.read(name, read_motion)
        return None if kept is None else kept.field

    def keeps_reference(self, name: str) -> bool:
        """Whether an entry has the clip's latents, for key and value injection."""
        return self._entries.read(name, lambda _, header: "reference_latents" in header.slots)

    def check(self, name: str) -> None:
        """Read all of an entry with flat memory and without torch. Raises EntryError if anything
        does not fit.
        """
        self._entries.read(name, check_entry)

    def verify(self) -> list[str]:
        """One sentence for each entry or record that is damaged and each file that is none; an
        empty list when all is well.
        """
        strangers = [
            f"{file} is a file that no entry can have." for file in self._entries.strangers()
        ]
        return [
            *self._entries.problems(check_entry),
            *self._inflight.problems(read_all),
            *strangers,
        ]

    def index(self) -> Iterator[IndexRow]:
        """A row for each entry, sorted by name. Rows of the index file serve where the entries have
        not changed; nothing is written.
        """
        return current(self._read_index(), self._entries.listing(), self._row)

    def reindex(self) -> int:
        """Bring the files of `index` and `search` up to date. Returns the number of entries."""
        self._folder.write(FILE, index_lines(self.index()))
        return len(rows.current(self._folder, self._entries).of.name)

    def search(
        self, *, like: str | MotionField | None = None, words: str = "", limit: int = 10
    ) -> Found:
        """The entries that move most like an entry of that name or a motion, as words say, or both.

        New entries are read once, as `reindex` does, and kept in `search.safetensors`.
        Raises BankError for words that are not understood, and where there is no motion.
        """
        return find(self._folder, self._entries, like, words, limit)

    def save_inflight(
        self, key: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
    ) -> None:
        """Write or replace the state of an unfinished batch. The key is formed like an entry's
        name; metadata are plain JSON values.
        """
        self._inflight.write(key, INFLIGHT, metadata, tensors)

    def load_inflight(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and metadata of an unfinished batch, or None if there are none. Raises EntryError
        when they are damaged.
        """
        with contextlib.suppress(UnknownEntryError):
            return self._inflight.read(
                key, lambda file, header: (read_tensors(file, header), header.metadata)
            )
        return None

    def inflight_metadata(self, key: str) -> dict[str, Any] | None:
        """Metadata of an unfinished batch by its header alone, or None if there are none."""
        with contextlib.suppress(UnknownEntryError):
            return self._inflight.read(key, lambda _, header: header.metadata)
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
        return {name: failure for name, failure in self._failures.all().items() if name not in self}

    def _check_same(self, name: str, content: str) -> None:
        with contextlib.suppress(EntryError):
            if self.content_hash(name) == content:
                return
        raise BankError(
            f"{self.path} already holds an entry {name!r}. Take another name, or bank.put(name, "
            "entry, overwrite=True)."
        )

    def _row(self, name: str, size: int, mark: str) -> IndexRow | None:
        try:
            return self._entries.read(name, lambda _, header: IndexRow.of(header, size, mark))
        except EntryError as error:
            return IndexRow(name, size, mark, problem=str(error))
        except UnknownEntryError:  # removed by another process since it was listed
            return None

    def _read_index(self) -> Iterator[IndexRow]:
        with (
            contextlib.suppress(FileNotFoundError, BankStorageError),
            self._folder.open(FILE) as (file, _),
        ):
            yield from parse_index(file)
