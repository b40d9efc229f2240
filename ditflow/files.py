"""Files that are whole or absent: written under a hidden name in the same folder, flushed to the
disk, then renamed.

A reader never sees half a file. After a power loss there is the old file or the new one, and at
worst a hidden `.*.tmp` beside it, which no listing of this library shows.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "the file would be larger than is allowed here (see `ulimit -f`)",
    errno.EROFS: "the disk is mounted read-only; name a folder you can write to",
    errno.EACCES: "permission is denied; name a folder you can write to",
    errno.EPERM: "permission is denied; name a folder you can write to",
    errno.ENOENT: "there is no such folder",
    errno.ENOTDIR: "a part of that path is a file, not a folder",
    errno.EISDIR: "there is a folder of that name",
    errno.EEXIST: "there is a file of that name",
    errno.ENAMETOOLONG: "the name is too long for this disk",
    errno.EIO: "the disk reports an error",
}


class StorageError(OSError):
    """The disk refused: one sentence that says which path, why, and what would help; `errno` as the
    system gave it.
    """

    @classmethod
    def of(cls, error: OSError, doing: str, path: str | os.PathLike[str]) -> StorageError:
        """This error for one of the system's; one that is explained already keeps its sentence."""
        reason = (
            REASONS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
        )
        refused = cls(
            str(error)
            if isinstance(error, StorageError)
            else f"Cannot {doing} {os.fspath(path)}: {reason}."
        )
        refused.errno = error.errno
        return refused


def expanded(path: str | os.PathLike[str]) -> Path:
    """With the home folder in place of `~` or `~name`. One that nobody has stays as it is, as in a
    shell: whoever opens the path says what is missing.
    """
    return Path(os.path.expanduser(path))


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], *, replace: bool = True) -> Iterator[BinaryIO]:
    """A binary file to write to, which becomes `path` when the block ends well, and nothing if it
    does not. The folder must exist.

    Replaces a file of that name; with `replace` false it is kept, and of several writers one
    succeeds while the others get a StorageError with errno EEXIST. Raises StorageError when the
    disk refuses; nothing half-written is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        (os.replace if replace else _link)(temporary, path)
        sync_folder(path.parent)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError.of(error, "write", path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Give the file its name unless it is taken. Where the disk knows no links, an empty file takes
    the name first.
    """
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o666))
        os.replace(temporary, path)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """A JSON file of plain values, whole or absent; the folder must exist. Raises StorageError."""
    with atomic_file(path) as file:
        file.write(json.dumps(value, indent=1).encode())


def write_csv(
    path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """A CSV file with a header, whole or absent; the folder must exist. Raises StorageError."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())


def folder_sha256(path: str | os.PathLike[str], pattern: str) -> str:
    """Of all files in a folder, at any depth, whose names match: of their paths and of what they
    hold. Raises OSError.
    """
    digest = hashlib.sha256()
    for file in sorted(Path(path).rglob(pattern)):
        with open(file, "rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            digest.update(f"{file.relative_to(path).as_posix()} {sha256}\n".encode())
    return digest.hexdigest()


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make the folder and what is missing above it, durably. Raises StorageError when the disk
    refuses.
    """
    path = Path(path)
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    try:
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError.of(error, "make the folder", path) from error


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable. Some systems cannot open or flush a folder; they make
    renames durable themselves.
    """
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
                raise
        finally:
            os.close(descriptor)
