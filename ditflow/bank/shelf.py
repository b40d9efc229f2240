"""Shelf: the records of one kind in one subfolder of a bank, by name. No name leads out of the folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from ditflow.bank.errors import BankError, EntryError, UnknownEntryError
from ditflow.bank.folders import Folder
from ditflow.bank.header import Header, read_header
from ditflow.bank.record import pack

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"


def is_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", name) is not None


@dataclass(frozen=True)
class Shelf:
    """Files `<under>/<name>.safetensors` of a folder; a `noun` is what errors call one of them."""

    folder: Folder
    under: str
    noun: str
    kind: str

    def listing(self) -> dict[str, tuple[int, str]]:
        """Sorted names, each with its file's bytes and mark. What has another kind of name is not listed."""
        files = self.folder.listing(self.under)
        return {name: files[name + SUFFIX] for name in sorted(file.removesuffix(SUFFIX) for file in files if _is_ours(file))}

    def strangers(self) -> list[str]:
        """Files that no record can have written."""
        return [f"{self.under}/{file}" for file in sorted(self.folder.listing(self.under)) if not _is_ours(file)]

    def __contains__(self, name: object) -> bool:
        return is_name(name) and self.folder.exists(f"{self.under}/{name}{SUFFIX}")

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[tuple[BinaryIO, Header]]:
        """A record's file behind its checked header. Raises UnknownEntryError, or EntryError if it is damaged or belongs to another name or kind."""
        subject = f"{self.noun} {name!r:.200}"
        with self._known(name) as path, self.folder.open(path) as (file, size):
            header = read_header(file, size, subject)
            if header.kind != self.kind:
                raise EntryError(f"{subject} is no {self.kind}: its file says it is a {header.kind!r:.80}.")
            if header.name != name:
                raise EntryError(f"{subject} was swapped or renamed: its file says it is {header.name!r:.200}.")
            yield file, header

    def write(self, name: str, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write or replace a record. Raises BankError for what cannot be a name: no name leads out of the folder."""
        if not is_name(name):
            raise BankError(f"{name!r:.200} cannot name an entry: take 1 to 128 letters A-Z a-z, digits, '.', '_' and '-', and no '.' first.")
        self.folder.write(f"{self.under}/{name}{SUFFIX}", pack(self.kind, name, metadata, tensors))

    def remove(self, name: str) -> None:
        with self._known(name) as path:
            self.folder.remove(path)

    @contextlib.contextmanager
    def _known(self, name: str) -> Iterator[str]:
        unknown = UnknownEntryError(f"There is no {self.noun} {name!r:.200}.")
        if not is_name(name):
            raise unknown
        try:
            yield f"{self.under}/{name}{SUFFIX}"
        except FileNotFoundError:
            raise unknown from None


def _is_ours(file: str) -> bool:
    return file.endswith(SUFFIX) and is_name(file.removesuffix(SUFFIX))
