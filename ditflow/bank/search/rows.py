"""What a bank is searched by: for each entry the descriptor of its motion, and its words.

It is derived from the entries: a row serves while its entry's file keeps size and mark, and what is
found by it is compared with the entry itself. It is kept as a record,
`search.safetensors`; one that is damaged, old or of another kind is made anew.
"""

# N entries, D numbers of a descriptor

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ditflow.bank.errors import BankStorageError, EntryError, UnknownEntryError
from ditflow.bank.file_format import Header, checked_chunks, pack, read_header
from ditflow.bank.kinds import KINDS, base, content_hash, metadata_of, read_motion
from ditflow.bank.records import Records
from ditflow.bank.remote_storage import open_folder
from ditflow.bank.search.descriptor import LENGTH, VERSION, descriptor
from ditflow.bank.storage import Folder
from ditflow.bank.validation import strict_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE, KIND = "search.safetensors", "ditflow search index"
BLOCK = 8192  # rows that are made before they are kept


@dataclass(frozen=True)
class Columns:
    """Of each row: the entry's name, size and mark of its file, its content hash and its words.

    The words are empty for an entry that keeps no motion or cannot be read.
    """

    name: list[str] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    mark: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Rows:
    """Columns, and the descriptors float16 (N, D) beside them: zeros for what does not move."""

    of: Columns
    vectors: NDArray[Any]

    def at(self, places: Sequence[int]) -> Rows:
        """Some of the rows."""
        if len(places) == len(self.of.name):  # all, in their order
            return self
        columns = {name: [values[at] for at in places] for name, values in vars(self.of).items()}
        return Rows(Columns(**columns), self.vectors[list(places)])

    def joined(self, other: Rows) -> Rows:
        """These rows and others."""
        import numpy as np

        both = {name: values + vars(other.of)[name] for name, values in vars(self.of).items()}
        return Rows(Columns(**both), np.concatenate([self.vectors, other.vectors]))


def current(folder: Folder, records: Records, doubted: Iterable[str] = ()) -> Rows:
    """A row for each entry. Those of new and changed entries are made, and so are those that are
    doubted, and those of entries that could not be read; all are kept for the next time.
    """
    known, listing, doubted = _kept(folder), records.listing(), set(doubted)
    told = known.of
    files = zip(told.name, told.size, told.mark, told.content, strict=True)
    places = {
        name: at
        for at, (name, size, mark, content) in enumerate(files)
        if mark and content and listing.get(name) == (size, mark) and name not in doubted
    }
    rows = known.at(list(places.values()))
    served = set(rows.of.name)
    fresh = [(name, *file) for name, file in listing.items() if name not in served]
    if not fresh and rows is known:
        return rows
    for start in range(0, len(fresh) or 1, BLOCK):  # once, where rows have only gone
        rows = rows.joined(_made(records, fresh[start : start + BLOCK]))
        with contextlib.suppress(BankStorageError):  # a bank that is only read is searched too
            folder.write(FILE, packed(rows))
    return rows


def no_rows() -> Rows:
    """Of a bank without entries."""
    import numpy as np

    return Rows(Columns(), np.zeros((0, LENGTH), np.float16))


def rows_at(path: str) -> Rows:
    """A row for each entry of the bank at a path or URL."""
    folder = open_folder(path)
    return current(folder, Records(folder, "entries", "entry", tuple(KINDS)))


def added(there: Rows, rows: Rows, marks: Mapping[str, str]) -> Rows:
    """Rows of a bank `there` once entries of another one are in it, whose rows are given: those
    that there are marks of, which their files will have there.
    """
    kept = there.at([at for at, name in enumerate(there.of.name) if name not in marks])
    new = rows.at([at for at, name in enumerate(rows.of.name) if name in marks])
    told = replace(new.of, mark=[marks[name] for name in new.of.name])
    return kept.joined(Rows(told, new.vectors))


def _made(records: Records, files: Iterable[tuple[str, int, str]]) -> Rows:
    """Rows of entries, read from their files; none for those that are gone."""
    import numpy as np

    columns, vectors = Columns(), [np.zeros((0, LENGTH), np.float16)]
    for name, size, mark in files:
        try:
            content, words, vector = records.read(name, row_of)
        except UnknownEntryError:  # removed by another process since it was listed
            continue
        except BankStorageError:
            raise
        except ValueError:  # damaged: `verify` says what is wrong
            content, words, vector = "", "", np.zeros(LENGTH)
        row = name, size, mark, content, words
        for column, value in zip(vars(columns).values(), row, strict=True):
            column.append(value)
        vectors.append(vector.astype(np.float16)[None])
    return Rows(columns, np.concatenate(vectors))


def words_of(file: Any, header: Header) -> tuple[str, str]:
    """Content hash and words of an entry, by its header alone where that says them."""
    metadata = metadata_of(header)
    if metadata.words and metadata.times:
        return content_hash(header), metadata.words
    return row_of(file, header)[:2]


def row_of(file: Any, header: Header) -> tuple[str, str, NDArray[Any]]:
    """Content hash, words and descriptor of an entry. Needs no torch where the entry says its
    words. Raises ValueError for what is no entry.
    """
    import numpy as np

    moved = read_motion(file, header)
    if moved is None:
        return content_hash(header), "", np.zeros(LENGTH)
    words = moved.metadata.words
    if not words:
        from ditflow.fields.words import described

        words = described(moved.field)
    return base.content_hash(moved.metadata, header), words, descriptor(moved)


def packed(rows: Rows) -> list[bytes | memoryview]:
    """The file of rows."""
    import numpy as np

    columns = np.frombuffer(json.dumps(vars(rows.of)).encode(), np.uint8)
    return pack(KIND, "search", {"version": VERSION}, {"vectors": rows.vectors, "columns": columns})


def _kept(folder: Folder) -> Rows:
    """The rows of the file; none where there is no file that can be used."""
    try:
        with folder.open(FILE) as (file, size):
            header = read_header(file, size, FILE)
            return _read(header, b"".join(checked_chunks(file, header)))
    except (FileNotFoundError, BankStorageError, EntryError, ValueError, KeyError, TypeError):
        return no_rows()


def _read(header: Header, body: bytes) -> Rows:
    """Raises EntryError for rows of another kind, or that do not fit each other."""
    import numpy as np

    if header.kind != KIND or header.metadata != {"version": VERSION}:
        raise EntryError(f"{FILE} is no search index of this version.")
    told, vectors = header.slots["columns"], header.slots["vectors"]
    columns = Columns(**strict_json(body[told.start : told.stop].decode()))
    count = len(columns.name)
    for name, values in vars(columns).items():
        kind = int if name == "size" else str
        if len(values) != count or not set(map(type, values)) <= {kind}:
            raise EntryError(f"{FILE} has a column {name} of something else.")
    if (vectors.dtype, vectors.shape) != ("F16", (count, LENGTH)):
        raise EntryError(f"{FILE} has vectors of another length.")
    numbers = np.frombuffer(body, "<f2", count * LENGTH, vectors.start)
    return Rows(columns, numbers.reshape(count, LENGTH))
