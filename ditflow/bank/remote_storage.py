"""RemoteFolder: a bank in object storage or any other place that fsspec reaches.

Credentials come from the environment that the place itself reads, such as AWS_ACCESS_KEY_ID or
AWS_PROFILE for S3, and from nowhere else.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from ditflow.bank import hub
from ditflow.bank.errors import BankError, BankStorageError
from ditflow.bank.storage import Buffers, Folder, LocalFolder, ShippedFolder
from ditflow.resources import shipped

# packages in whose words a place refuses, where it does not raise an OSError
SPEAKERS = (
    "aiobotocore",
    "botocore",
    "aiohttp",
    "gcsfs",
    "google",
    "azure",
    "paramiko",
    *hub.NETWORK,
)


def open_folder(url: str) -> Folder:
    """The folder of a local path, of a bank that ships, by its name where no folder has it, or of
    an fsspec URL. Nothing is made. Raises BankError for a URL that carries a password, or that
    nothing can reach.
    """
    if re.search(r"://[^/]*:[^/]*@", url):
        raise BankError(
            "The bank's URL carries a password, which logs and saved settings would repeat: give "
            "it by the environment of the storage instead."
        )
    if "://" not in url and "::" not in url:
        ships = _shipped(url)
        return LocalFolder(os.path.expanduser(url)) if ships is None else ShippedFolder(ships)
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    on_hub = url.startswith(hub.PROTOCOL)
    if on_hub:
        url = hub.place_at(url).url
    try:
        files, root = url_to_fs(url)
    except (
        ValueError,
        ImportError,
    ) as error:  # an unknown protocol, or its package is not installed
        raise BankError(f"Cannot reach {url}: {str(error).rstrip('.')}.") from error
    if isinstance(files, LocalFileSystem):
        return LocalFolder(root)
    return RemoteFolder(files, root, fixed=hub.READ_ONLY if on_hub else "")


def _shipped(name: str) -> str | None:
    """Where the bank of that name ships; None for a path, and where there is something here."""
    name = name.rstrip("/")
    if os.path.basename(name) != name or os.path.lexists(name):
        return None
    folder = shipped("checkpoints/banks", name)
    return None if folder is None else str(folder)


class RemoteFolder(Folder):
    """By fsspec. A file is written by one put of the whole object, which object storages make
    atomic; no bucket is ever made. `fixed` says why nothing is written there, nor changes.
    """

    def __init__(self, files: Any, root: str, *, fixed: str = "") -> None:
        self.files, self.root, self.fixed = files, root.rstrip("/"), fixed

    def exists(self, path: str = "") -> bool:
        with self._told("look at", path), contextlib.suppress(FileNotFoundError):
            self._refresh()
            self.files.info(self._at(path))
            return True
        return False

    def listing(self, under: str) -> dict[str, tuple[int, str]]:
        return {
            name: (int(row["size"] or 0), _mark(row))
            for name, row in self._rows(under).items()
            if not name.startswith(".")
        }

    def ages(self, under: str) -> dict[str, float]:
        return {name: _age(row) for name, row in self._rows(under).items()}

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[tuple[BinaryIO, int]]:
        with self._told("read", path), self.files.open(self._at(path), "rb") as file:
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
        with self._told("remove", path):
            self._check_writable(path)
            self.files.rm_file(self._at(path))

    def _rows(self, under: str) -> dict[str, dict[str, Any]]:
        with self._told("list", under), contextlib.suppress(FileNotFoundError):
            self._refresh()
            return {
                row["name"].rsplit("/", 1)[-1]: row
                for row in self.files.ls(self._at(under), detail=True)
                if row["type"] == "file"
            }
        return {}

    def _write(self, path: str, data: bytes, mode: str) -> None:
        with self._told("write", path):
            self._check_writable(path)
            try:
                self.files.pipe_file(self._at(path), data, mode=mode)
            except FileNotFoundError:
                self._make_above(self._at(path))
                self.files.pipe_file(self._at(path), data, mode=mode)

    def _make_above(self, file: str) -> None:
        """Make the folders above a file in a place with true ones, such as SFTP, but not the first:
        in object storage that is a bucket.
        """
        top, *folders = file.lstrip("/").split("/")[:-1]
        for folder in folders:
            top = f"{top}/{folder}"
            path = f"/{top}" if file.startswith("/") else top
            if not self.files.isdir(path):
                self.files.mkdir(path, create_parents=False)

    def _refresh(self) -> None:
        if not self.fixed:
            self.files.invalidate_cache()

    def _check_writable(self, path: str) -> None:
        if self.fixed:
            raise BankStorageError(f"Cannot change {self._url(path)}: {self.fixed}.")

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _url(self, path: str) -> str:
        return str(self.files.unstrip_protocol(self._at(path)))

    @contextlib.contextmanager
    def _told(self, doing: str, path: str) -> Iterator[None]:
        """What the place refuses becomes one sentence."""
        try:
            yield
        except BankError:
            raise
        except Exception as error:
            if isinstance(error, FileNotFoundError) and doing != "write":
                raise
            if (
                not isinstance(error, OSError)
                and type(error).__module__.partition(".")[0] not in SPEAKERS
            ):
                raise
            said = (self.fixed and hub.reason(error)) or _reason(error)
            told = BankStorageError(f"Cannot {doing} {self._url(path)}: {said}.")
            told.errno = getattr(error, "errno", None)
            raise told from error


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if "Credentials" in type(error).__name__:
        return (
            f"{said[:1].lower()}{said[1:]}; give them by the environment, for S3 by "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or by AWS_PROFILE"
        )
    if isinstance(error, PermissionError):
        return (
            f"access is denied ({said}); check the credentials in the environment and what they "
            "allow"
        )
    if isinstance(error, FileNotFoundError):
        return f"there is no such bucket or folder ({said}); make it first"
    return said


def _mark(row: dict[str, Any]) -> str:
    """On the hub it is the sum of a large file, or git's of a small one."""
    told = {**row, **(row.get("lfs") or {})}
    keys = "sha256", "ETag", "etag", "mtime", "LastModified", "created", "blob_id"
    return str(next((told[key] for key in keys if told.get(key) is not None), ""))


def _age(row: dict[str, Any]) -> float:
    """By the clocks of both: leases do not rest on it."""
    written = next(
        (row[key] for key in ("LastModified", "mtime", "created") if row.get(key) is not None), None
    )
    if isinstance(written, datetime.datetime):
        written = written.replace(tzinfo=written.tzinfo or datetime.UTC).timestamp()
    now = datetime.datetime.now().timestamp()
    return max(now - written, 0.0) if isinstance(written, int | float) else 0.0
