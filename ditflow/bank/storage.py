"""Folder: what a bank asks of the place where it lies. Paths are relative, with "/"; a written file
is whole or absent.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from ditflow.bank.errors import BankStorageError
from ditflow.files import atomic_file, make_folder

Buffers = Iterable[bytes | memoryview]
REPLACED = (errno.EBUSY, errno.ESTALE)


class Folder(ABC):
    """A place for files. Reading and removing what is not there raises FileNotFoundError; what the
    place refuses, BankStorageError.

    A file that is replaced while it is read is read as it was, or raises BankStorageError with one
    of `REPLACED` as its errno.
    """

    @abstractmethod
    def exists(self, path: str = "") -> bool: ...

    @abstractmethod
    def listing(self, under: str) -> dict[str, tuple[int, str]]:
        """Per file in a subfolder: its bytes, and a mark that changes when the file does ("" if the
        place knows none). Hidden files are left out.
        """

    @abstractmethod
    def ages(self, under: str) -> dict[str, float]:
        """Seconds since each file in a subfolder was written, hidden files too; 0 if the place does
        not know.
        """

    @abstractmethod
    def open(self, path: str) -> contextlib.AbstractContextManager[tuple[BinaryIO, int]]:
        """The file for reading, and its bytes."""

    @abstractmethod
    def write(self, path: str, buffers: Buffers) -> None: ...

    @abstractmethod
    def create(self, path: str, buffers: Buffers) -> bool:
        """Write a file unless one is there; of several writers one succeeds. False for the
        others.
        """

    @abstractmethod
    def remove(self, path: str) -> None: ...

    def remove_if_empty(self, under: str) -> None:  # noqa: B027  object storages have no folders
        """Remove a subfolder, unless there is something in it."""


class LocalFolder(Folder):
    """On a disk. A root that was seen must stay the folder that it is: where a mount has gone, what
    is below its place is nobody's.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self._seen: tuple[int, int] | None = None

    def exists(self, path: str = "") -> bool:
        with _explained("look at", self.root / path):
            self._seen = self._seen or self._identity()
            return (self.root / path).exists()

    def listing(self, under: str) -> dict[str, tuple[int, str]]:
        """The mark has the inode too: two writes may fall into one tick of the disk's clock."""
        files = self._files(under)
        return {
            name: (status.st_size, f"{status.st_mtime_ns}.{status.st_ino}")
            for name, status in files
            if not name.startswith(".")
        }

    def ages(self, under: str) -> dict[str, float]:
        now = time.time()
        return {name: max(now - status.st_mtime, 0.0) for name, status in self._files(under)}

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[tuple[BinaryIO, int]]:
        with _explained("read", self.root / path):
            if not (self.root / path).is_file():  # opening a pipe of that name would hang
                raise FileNotFoundError(self.root / path)
            with open(self.root / path, "rb") as file:
                yield file, os.fstat(file.fileno()).st_size

    def write(self, path: str, buffers: Buffers) -> None:
        self._make_above(path)
        self._write(path, buffers, replace=True)

    def create(self, path: str, buffers: Buffers) -> bool:
        self._make_above(path)
        try:
            self._write(path, buffers, replace=False)
        except BankStorageError as error:
            if error.errno != errno.EEXIST:
                raise
            return False
        return True

    def remove(self, path: str) -> None:
        with _explained("remove", self.root / path):
            (self.root / path).unlink()

    def remove_if_empty(self, under: str) -> None:
        with contextlib.suppress(OSError):
            (self.root / under).rmdir()

    def _files(self, under: str) -> Iterator[tuple[str, os.stat_result]]:
        with (
            _explained("list", self.root / under),
            contextlib.suppress(FileNotFoundError),
            os.scandir(self.root / under) as items,
        ):
            for item in items:
                try:
                    status = item.stat()
                except FileNotFoundError:  # gone since it was listed
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield item.name, status

    def _make_above(self, path: str) -> None:
        with _explained("write", self.root / path):
            if self._seen is None:
                make_folder(self.root)
                self._seen = self._identity()
            elif self._seen != self._identity():
                raise OSError(
                    errno.ESTALE,
                    "its folder has gone or is another one now; mount it again and run the same "
                    "command again",
                )
            make_folder((self.root / path).parent)

    def _identity(self) -> tuple[int, int] | None:
        """Of the root, on this machine; None where there is none."""
        with contextlib.suppress(FileNotFoundError):
            status = self.root.stat()
            return status.st_dev, status.st_ino
        return None

    def _write(self, path: str, buffers: Buffers, *, replace: bool) -> None:
        with (
            _explained("write", self.root / path),
            atomic_file(self.root / path, replace=replace) as file,
        ):
            for buffer in buffers:
                file.write(buffer)


class ShippedFolder(Folder):
    """A bank that comes with ditflow: read where it was installed, and never changed. Marks are
    sums of files, which an installation keeps.
    """

    def __init__(self, root: str) -> None:
        self._inside = LocalFolder(root)

    def exists(self, path: str = "") -> bool:
        return self._inside.exists(path)

    def listing(self, under: str) -> dict[str, tuple[int, str]]:
        files = self._inside.listing(under)
        return {
            name: (
                size,
                hashlib.sha256((self._inside.root / under / name).read_bytes()).hexdigest(),
            )
            for name, (size, _) in files.items()
        }

    def ages(self, under: str) -> dict[str, float]:
        return self._inside.ages(under)

    def open(self, path: str) -> contextlib.AbstractContextManager[tuple[BinaryIO, int]]:
        return self._inside.open(path)

    def write(self, path: str, buffers: Buffers) -> None:
        self._refuse()

    def create(self, path: str, buffers: Buffers) -> bool:
        self._refuse()

    def remove(self, path: str) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        name = self._inside.root.name
        raise BankStorageError(
            f"{name} is the bank that comes with ditflow, and nothing in it is changed: name a "
            f"bank of yours, or make one of its entries: `ditflow bank export {name} mine/ NAME`."
        )


@contextlib.contextmanager
def _explained(doing: str, path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, BankStorageError):
        raise
    except OSError as error:
        raise BankStorageError.of(error, doing, path) from error
