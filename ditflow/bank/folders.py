"""Where a bank lies: a local folder, or any other place that fsspec can reach. Paths are relative, with "/"; a written file is whole or absent."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ditflow.bank.errors import BankError, BankStorageError
from ditflow.files import atomic_file, make_folder

Buffers = Iterable[bytes | memoryview]


class Folder(ABC):
    """A place for files. Reading and removing what is not there raises FileNotFoundError; what the place refuses, BankStorageError."""

    @abstractmethod
    def exists(self, path: str = "") -> bool: ...

    @abstractmethod
    def listing(self, under: str) -> dict[str, tuple[int, str]]:
        """Per file in a subfolder: its bytes, and a mark that changes when the file does ("" if the place knows none). Hidden files are left out."""

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


class LocalFolder(Folder):
    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def exists(self, path: str = "") -> bool:
        with _explained("look at", self.root / path):
            return (self.root / path).exists()

    def listing(self, under: str) -> dict[str, tuple[int, str]]:
        with _explained("list", self.root / under), contextlib.suppress(FileNotFoundError), os.scandir(self.root / under) as items:
            return dict(row for item in items if not item.name.startswith(".") for row in _status(item))
        return {}

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[tuple[BinaryIO, int]]:
        with _explained("read", self.root / path):
            if not (self.root / path).is_file():  # opening a pipe of that name would hang
                raise FileNotFoundError(self.root / path)
            with open(self.root / path, "rb") as file:
                yield file, os.fstat(file.fileno()).st_size

    def write(self, path: str, buffers: Buffers) -> None:
        self._write(path, buffers, replace=True)

    def create(self, path: str, buffers: Buffers) -> bool:
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

    def _write(self, path: str, buffers: Buffers, *, replace: bool) -> None:
        with _explained("write", self.root / path):
            make_folder((self.root / path).parent)
            with atomic_file(self.root / path, replace=replace) as file:
                for buffer in buffers:
                    file.write(buffer)


class RemoteFolder(Folder):
    """By fsspec. A file is written by one put of the whole object, which object storages make atomic."""

    def __init__(self, files: Any, root: str) -> None:
        self.files, self.root = files, root.rstrip("/")

    def exists(self, path: str = "") -> bool:
        with _explained("look at", self._at(path)):
            self.files.invalidate_cache()
            return bool(self.files.exists(self._at(path)))

    def listing(self, under: str) -> dict[str, tuple[int, str]]:
        with _explained("list", self._at(under)), contextlib.suppress(FileNotFoundError):
            self.files.invalidate_cache()
            rows = [row for row in self.files.ls(self._at(under), detail=True) if row["type"] == "file"]
            return {name: (int(row["size"] or 0), _mark(row)) for row in rows if not (name := row["name"].rsplit("/", 1)[-1]).startswith(".")}
        return {}

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[tuple[BinaryIO, int]]:
        with _explained("read", self._at(path)), self.files.open(self._at(path), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            yield file, size

    def write(self, path: str, buffers: Buffers) -> None:
        self._write(path, b"".join(buffers), mode="overwrite")

    def create(self, path: str, buffers: Buffers) -> bool:
        try:
            self._write(path, b"".join(buffers), mode="create")
        except BankStorageError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            return False
        return True

    def remove(self, path: str) -> None:
        with _explained("remove", self._at(path)):
            self.files.rm_file(self._at(path))

    def _write(self, path: str, data: bytes, mode: str) -> None:
        with _explained("write", self._at(path)):
            try:
                self.files.pipe_file(self._at(path), data, mode=mode)
            except FileNotFoundError:  # places with true folders, such as SFTP
                self.files.makedirs(self._at(path).rsplit("/", 1)[0], exist_ok=True)
                self.files.pipe_file(self._at(path), data, mode=mode)

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root


def open_folder(url: str) -> Folder:
    """The folder of a local path or of an fsspec URL. Nothing is made."""
    if "://" not in url and "::" not in url:
        return LocalFolder(os.path.expanduser(url))
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    try:
        files, root = url_to_fs(url)
    except (ValueError, ImportError) as error:  # an unknown protocol, or its package is not installed
        raise BankError(f"Cannot reach {url}: {str(error).rstrip('.')}.") from error
    return LocalFolder(root) if isinstance(files, LocalFileSystem) else RemoteFolder(files, root)


def _status(item: os.DirEntry[str]) -> Iterator[tuple[str, tuple[int, str]]]:
    with contextlib.suppress(FileNotFoundError):  # gone since it was listed
        status = item.stat()
        if stat.S_ISREG(status.st_mode):
            yield item.name, (status.st_size, str(status.st_mtime_ns))


def _mark(row: dict[str, Any]) -> str:
    return str(next((row[key] for key in ("ETag", "etag", "mtime", "LastModified", "created") if row.get(key) is not None), ""))


@contextlib.contextmanager
def _explained(doing: str, path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, BankStorageError):
        raise
    except OSError as error:
        raise BankStorageError.of(error, doing, path) from error
