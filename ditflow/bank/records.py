"""The records in one subfolder of a bank, by name. No name leads out of the folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from ditflow.bank.errors import BankError, BankStorageError, EntryError, UnknownEntryError
from ditflow.bank.file_format import Header, checked_chunks, pack, read_header, write_header
from ditflow.bank.storage import REPLACED, Folder

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")
SUFFIX, ATTEMPTS = ".safetensors", 8
NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
OURS = re.compile(NAME + re.escape(SUFFIX))


def is_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(NAME, name) is not None


@dataclass(frozen=True)
class Records:
    """Files `<under>/<name>.safetensors` of a folder; a `noun` is what errors call one of them, and
    their `kinds` are those that their headers may name.
    """

    folder: Folder
    under: str
    noun: str
    kinds: tuple[str, ...]

    def listing(self) -> dict[str, tuple[int, str]]:
        """Sorted names, each with its file's bytes and mark. What has another kind of name is not
        listed.
        """
        files = self.folder.listing(self.under)
        return {
            name: files.pop(name + SUFFIX)
            for name in sorted(file[: -len(SUFFIX)] for file in files if OURS.fullmatch(file))
        }

    def strangers(self) -> list[str]:
        """Files that no record can have written."""
        return [
            f"{self.under}/{file}"
            for file in sorted(self.folder.listing(self.under))
            if not OURS.fullmatch(file)
        ]

    def __contains__(self, name: object) -> bool:
        return is_name(name) and self.folder.exists(f"{self.under}/{name}{SUFFIX}")

    def read(self, name: str, use: Callable[[BinaryIO, Header], Result]) -> Result:
        """What `use` makes of a record's file, which stands behind its checked header; again where
        the record is replaced meanwhile.

        Raises UnknownEntryError, or EntryError if the record is damaged or belongs to another name
        or kind.
        """
        for _ in range(ATTEMPTS):
            try:
                with self._known(name) as path, self.folder.open(path) as (file, size):
                    return use(file, self._header(file, size, name))
            except BankStorageError as error:
                if error.errno not in REPLACED:
                    raise
        raise BankStorageError(
            f"Cannot read {self.noun} {name!r}: it was replaced {ATTEMPTS} times while it was "
            "read. Try again."
        )

    def problems(self, use: Callable[[BinaryIO, Header], object]) -> Iterator[str]:
        """One sentence for each record that `use` refuses."""
        for name in self.listing():
            try:
                self.read(name, use)
            except EntryError as error:
                yield str(error)
            except UnknownEntryError:  # removed by another process since it was listed
                continue

    def write(
        self, name: str, kind: str, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> None:
        """Write or replace a record. Raises BankError for what cannot be a name: no name leads out
        of the folder.
        """
        self.folder.write(self._path(name), pack(kind, name, metadata, tensors))

    def create(
        self, name: str, kind: str, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> bool:
        """Write a record unless the name is taken: false then."""
        return self.folder.create(self._path(name), pack(kind, name, metadata, tensors))

    def copy(self, name: str, to: Records) -> bool:
        """A record to another shelf with flat memory, its sum checked on the way; false where the
        name is taken there.
        """
        return self.read(
            name,
            lambda file, header: to.folder.create(
                to._path(name), chain([write_header(header)], checked_chunks(file, header))
            ),
        )

    def remove(self, name: str) -> None:
        with self._known(name) as path:
            self.folder.remove(path)

    def _header(self, file: BinaryIO, size: int, name: str) -> Header:
        subject = f"{self.noun} {name!r:.200}"
        header = read_header(file, size, subject)
        if header.kind not in self.kinds:
            wanted = " or ".join(self.kinds)
            raise EntryError(
                f"{subject} is no {wanted}: its file says it is a {header.kind!r:.80}."
            )
        if header.name != name:
            raise EntryError(
                f"{subject} was swapped or renamed: its file says it is {header.name!r:.200}."
            )
        return header

    def _path(self, name: str) -> str:
        if not is_name(name):
            raise BankError(
                f"{name!r:.200} cannot name an entry: take 1 to 128 letters A-Z a-z, digits, '.', "
                "'_' and '-', and no '.' first."
            )
        return f"{self.under}/{name}{SUFFIX}"

    @contextlib.contextmanager
    def _known(self, name: str) -> Iterator[str]:
        unknown = UnknownEntryError(f"There is no {self.noun} {name!r:.200}.")
        if not is_name(name):
            raise unknown
        try:
            yield f"{self.under}/{name}{SUFFIX}"
        except FileNotFoundError:
            raise unknown from None


def read_all(file: BinaryIO, header: Header) -> None:
    """Raise EntryError for a record whose sum does not fit, whatever its kind."""
    for _ in checked_chunks(file, header):
        pass
