"""Leases: any number of processes share the clips of a bank without knowing of each other.

    bank/leases/<key>.<generation>     JSON: holder, its lock, and a heartbeat counter

One of several processes can create a lease's file, and thereby takes the lease. The holder counts
the heartbeat up. A watcher takes the holder for dead when the counter has stood still for `EXPIRY`
seconds of the watcher's own clock, or at once when the holder's lock on this machine is free; it
then creates the next generation. The newest generation holds. Clocks are never compared. Should two
processes ever hold one key, both do the same work with the same result.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from ditflow.bank.bank import MotionBank
from ditflow.bank.errors import BankError, BankStorageError
from ditflow.bank.records import is_name
from ditflow.bank.remote_storage import open_folder
from ditflow.bank.validation import Check, canonical_json, integer, normal, strict_json, text
from ditflow.liveness import Alive, is_gone

EXPIRY, BEAT = 60.0, 10.0  # seconds
FIELDS: dict[str, Check] = {
    "holder": text(1 << 10),
    "process": text(1 << 10),
    "beats": integer(0, 1 << 62),
}


@dataclass(frozen=True)
class Lease:
    """Who holds a key.

    Attributes:
        generation: Of a key; the newest counts.
        holder: For people, such as host, rank and process.
        process: Name of the holder's lock, see `ditflow.liveness`.
        beats: Counts up while the holder lives.
    """

    generation: int
    holder: str = "unknown"
    process: str = ""
    beats: int = 0


class Leases:
    """The leases of one holder in a bank, or in a folder of that path beside other work.

    A key is formed like an entry's name.

    Args:
        holder: Who shows up in `holders`.
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
        self._mine, self._alive = Lease(0, holder, uuid.uuid4().hex), Alive()
        self._expiry, self._clock = expiry, clock
        self._held: dict[str, Lease] = {}
        # leases of others, and when each was first seen as it is
        self._seen: dict[str, tuple[Lease, float]] = {}
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
            if not self._held:
                self._alive.begin(self._mine.process)
            if created := self._create(key, lease):
                self._held[key] = lease
            return created

    def renew(self) -> None:
        """One heartbeat for all that is held.

        What others took over while this process stood still is held no more.
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
        """Keys whose holder is dead: its lock is free, or its heart has stood still for long."""
        with self._lock:
            return {
                key
                for key, lease in self._all().items()
                if key not in self._held and self._is_dead(key, lease)
            }

    @contextlib.contextmanager
    def beating(self, every: float = BEAT) -> Iterator[None]:
        """Renew from a thread, however long a step of the work takes; give all back in the end.

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
            self._alive.end()

    def _create(self, key: str, lease: Lease) -> bool:
        try:
            return self._folder.create(_path(key, lease), _content(lease))
        except BankStorageError as error:
            # the last one to leave took the folder with it at this moment: look again
            if error.errno != errno.ENOENT:
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
        """None if it was released since it was listed.

        What cannot be read is a lease all the same, and dies where nobody writes it anew.
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


def _path(key: str, lease: Lease) -> str:
    return f"leases/{key}.{lease.generation}"


def _content(lease: Lease) -> list[bytes]:
    fields = {name: value for name, value in asdict(lease).items() if name in FIELDS}
    return [canonical_json(fields).encode()]
