"""Leases: who works on what in a bank, so that any number of processes share its clips without
knowing of each other.

    bank/leases/<key>.<generation>     JSON: holder, its process, and a heartbeat counter

A lease is taken by creating its file, which one of several processes can. Its holder counts the
heartbeat up; a watcher takes it for dead when the counter has stood still for `EXPIRY` seconds of
the watcher's own clock, or when the process is known to be gone, and creates the next generation.
The newest generation holds. Clocks are never compared. Should two processes ever hold one key, both
do the same work with the same result.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ditflow.bank.bank import MotionBank
from ditflow.bank.errors import BankError, BankStorageError
from ditflow.bank.records import is_name
from ditflow.bank.remote_storage import open_folder
from ditflow.bank.validation import Check, canonical_json, integer, normal, strict_json, text

EXPIRY, BEAT = 60.0, 10.0  # seconds
FIELDS: dict[str, Check] = {
    "holder": text(1 << 10),
    "process": text(1 << 10),
    "beats": integer(0, 1 << 62),
}


@dataclass(frozen=True)
class Lease:
    """Attributes: generation: of a key, the newest counts. holder: for people. process: see
    `this_process`. beats: counts up while the holder lives.
    """

    generation: int
    holder: str = "unknown"
    process: str = ""
    beats: int = 0


class Leases:
    """Leases of one holder in a bank, or beside other work in a folder of that path. A key is
    formed like an entry's name.

    Args:
        holder: Who shows up in `holders`, such as host, rank and process.
        expiry: Seconds without a heartbeat after which a lease is dead.
        clock: Seconds that never go back.
    Raises: BankError for what cannot be a key; BankStorageError where the place refuses.
    """

    def __init__(
        self,
        bank: MotionBank | str,
        holder: str,
        *,
        expiry: float = EXPIRY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = open_folder(bank if isinstance(bank, str) else bank.path)
        self._mine = Lease(0, holder, this_process())
        self._expiry, self._clock = expiry, clock
        self._held: dict[str, Lease] = {}
        self._seen: dict[
            str, tuple[Lease, float]
        ] = {}  # leases of others, and when each was first seen as it is
        self._lock = threading.Lock()

    def acquire(self, key: str) -> bool:
        """Take a lease that is free or dead. False where another holds it."""
        if not is_name(key):
            raise BankError(f"{key!r:.200} cannot be leased: it is formed like an entry's name.")
        with self._lock:
            if key in self._held:
                return True
            current = self._current(key)
            if current is not None and not self._is_dead(key, current):
                return False
            lease = replace(self._mine, generation=current.generation + 1 if current else 0)
            if created := self._create(key, lease):
                self._held[key] = lease
            return created

    def renew(self) -> None:
        """One heartbeat for all that is held. What others took over while this process stood still
        is held no more.
        """
        with self._lock:
            generations = self._generations() if self._held else {}
            self._held = {
                key: replace(lease, beats=lease.beats + 1)
                for key, lease in self._held.items()
                if generations.get(key) == lease.generation
            }
            for key, lease in self._held.items():
                self._folder.write(_path(key, lease), _content(lease))

    def release(self, key: str) -> None:
        """Give a lease back; older generations go first, so that none of them holds again."""
        with self._lock:
            lease = self._held.pop(key, None)
            for generation in range(lease.generation + 1 if lease else 0):
                with contextlib.suppress(FileNotFoundError):
                    self._folder.remove(_path(key, Lease(generation)))

    def holders(self) -> dict[str, str]:
        """Who holds each key, dead or alive, sorted by key."""
        return {key: lease.holder for key, lease in self._all().items()}

    def dead(self) -> set[str]:
        """Keys whose holder is known to be dead: its process is gone, or its heartbeat has stood
        still over earlier calls.
        """
        with self._lock:
            return {
                key
                for key, lease in self._all().items()
                if key not in self._held and self._is_dead(key, lease)
            }

    @contextlib.contextmanager
    def beating(self, every: float = BEAT) -> Iterator[None]:
        """Renew from a thread, however long a step of the work takes, and give all back in the end.
        Where the place refuses, the next beat may succeed.
        """
        stopped = threading.Event()

        def beat() -> None:
            while not stopped.wait(every):
                with contextlib.suppress(BankStorageError):
                    self.renew()

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
            with contextlib.suppress(BankStorageError):
                for key in list(self._held):
                    self.release(key)
                self._folder.remove_if_empty("leases")

    def _create(self, key: str, lease: Lease) -> bool:
        try:
            return self._folder.create(_path(key, lease), _content(lease))
        except BankStorageError as error:
            if (
                error.errno != errno.ENOENT
            ):  # the last one to leave took the folder with it at this moment: look again
                raise
            return False

    def _all(self) -> dict[str, Lease]:
        leases = {
            key: self._read(key, generation)
            for key, generation in sorted(self._generations().items())
        }
        return {key: lease for key, lease in leases.items() if lease is not None}

    def _is_dead(self, key: str, lease: Lease) -> bool:
        seen, since = self._seen.get(key, (None, 0.0))
        if seen != lease:
            since = self._clock()
            self._seen[key] = (lease, since)
        return self._clock() - since >= self._expiry or is_gone(lease.process)

    def _current(self, key: str) -> Lease | None:
        generation = self._generations().get(key)
        return None if generation is None else self._read(key, generation)

    def _generations(self) -> dict[str, int]:
        """The newest generation of each key."""
        parted = (name.rpartition(".") for name in self._folder.listing("leases"))
        known = sorted(
            (key, int(number))
            for key, _, number in parted
            if is_name(key) and number.isdecimal() and len(number) < 10
        )
        return dict(known)

    def _read(self, key: str, generation: int) -> Lease | None:
        """None if it was released since it was listed. What cannot be read is a lease nevertheless,
        and dies where nobody writes it anew.
        """
        try:
            with self._folder.open(_path(key, Lease(generation))) as (file, _):
                return Lease(generation, **normal(FIELDS, strict_json(file.read(1 << 16).decode())))
        except FileNotFoundError:
            return None
        except BankStorageError:
            raise
        except ValueError:
            return Lease(generation)


def this_process() -> str:
    """What tells this process from all others of this boot of this machine, where the system says
    so; else "".
    """
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}/{os.getpid()}/{_started(os.getpid())}"
    return ""


def is_gone(process: str) -> bool:
    """Whether a process is known to have ended: one of this machine and this space of process ids,
    whose id is free, a zombie's, or another's.
    """
    ours = this_process().split("/")
    place, (pid, started) = process.split("/")[:2], (process.split("/")[2:] + ["", ""])[:2]
    if len(ours) != 4 or place != ours[:2] or not pid.isdecimal():
        return False
    return _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine did; "" for none or one that has ended and
    waits for its parent.
    """
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    return ""


def _path(key: str, lease: Lease) -> str:
    return f"leases/{key}.{lease.generation}"


def _content(lease: Lease) -> list[bytes]:
    return [
        canonical_json(
            {name: value for name, value in asdict(lease).items() if name in FIELDS}
        ).encode()
    ]
