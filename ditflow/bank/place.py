"""Folder: what a bank asks of the place where it lies. Paths are relative, with "/"; a written file is whole or absent."""

from __future__ import annotations

import contextlib
import errno
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import BinaryIO

Buffers = Iterable[bytes | memoryview]
REPLACED = (errno.EBUSY, errno.ESTALE)


class Folder(ABC):
    """A place for files. Reading and removing what is not there raises FileNotFoundError; what the place refuses, BankStorageError.

    A file that is replaced while it is read is read as it was, or raises BankStorageError with one of `REPLACED` as its errno.
    """

    @abstractmethod
    def exists(self, path: str = "") -> bool: ...

    @abstractmethod
    def listing(self, under: str) -> dict[str, tuple[int, str]]:
        """Per file in a subfolder: its bytes, and a mark that changes when the file does ("" if the place knows none). Hidden files are left out."""

    @abstractmethod
    def ages(self, under: str) -> dict[str, float]:
        """Seconds since each file in a subfolder was written, hidden files too; 0 if the place does not know."""

    @abstractmethod
    def open(self, path: str) -> contextlib.AbstractContextManager[tuple[BinaryIO, int]]:
        """The file for reading, and its bytes."""

    @abstractmethod
    def write(self, path: str, buffers: Buffers) -> None: ...

    @abstractmethod
    def create(self, path: str, buffers: Buffers) -> bool:
        """Write a file unless one is there; of several writers one succeeds. False for the others."""

    @abstractmethod
    def remove(self, path: str) -> None: ...

    def remove_if_empty(self, under: str) -> None:  # noqa: B027  object storages have no folders
        """Remove a subfolder, unless there is something in it."""
