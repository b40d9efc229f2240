"""Whether a process of this machine still lives, told by a lock that the system frees with it."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

NO_LOCKS = (OSError, NotImplementedError)  # raised where the place for files has no locks


class Alive:
    """A lock that is held for as long as its process lives.

    Its file goes with it, unless the process is killed: then an empty file stays.
    """

    _end: Callable[[], object] | None = None

    def begin(self, name: str) -> None:
        if self._end is None:
            lock = lock_of(name)
            with contextlib.suppress(*NO_LOCKS):  # without a lock, the heartbeat alone tells
                lock.acquire()
                self._end = weakref.finalize(self, _let_go, lock, os.getpid())

    def end(self) -> None:
        if self._end is not None:
            self._end()
        self._end = None


def _let_go(lock: FileLock, process: int) -> None:
    if os.getpid() == process:  # not in a child that was forked meanwhile
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def lock_of(name: str) -> FileLock:
    """The lock that a holder keeps, in this machine's folder for temporary files."""
    return FileLock(Path(tempfile.gettempdir()) / f"ditflow-{name}.lock", blocking=False)


def is_gone(name: str) -> bool:
    """Whether the process that kept a lock has ended: the system frees it with the process.

    Nothing is known of a lock on another machine or in another container; the heartbeat tells.
    """
    if not re.fullmatch("[0-9a-f]{32}", name):
        return False
    lock = lock_of(name)
    if not Path(lock.lock_file).is_file():
        return False
    try:
        lock.acquire()
    except (Timeout, *NO_LOCKS):
        return False
    lock.release()
    return True
