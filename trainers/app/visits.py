"""Visits: what each visitor has, which no other sees, and when it is thrown away."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ditflow.bank import MotionBank
from trainers.app.motions import Motion

KEPT = 3600.0  # seconds that a visit is kept after its page was closed
MOST = 200  # visits at a time; of more, those whose page was closed end first, then the quietest


class Stopped(Exception):
    """The visitor has stopped the work, or has gone."""


@dataclass(eq=False)
class Visit:
    """What a visitor looks at, and has: a motion, a bank, the names in the gallery, and videos.

    Attributes:
        folder: of the visitor's own files.
        bank: the visitor's own, or the one that all share.
        stills: folder of the pictures of its entries.
        stop: set where the visitor's work is to end at its next step.
        left: when the page was closed; None while it is open.
    """

    folder: Path
    bank: MotionBank
    stills: Path
    motion: Motion | None = None
    shown: list[str] = field(default_factory=list)
    latest: Path | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    left: float | None = None

    @property
    def films(self) -> Path:
        """Folder of drawings for this visitor alone: they may show a clip."""
        return self.folder / "films"

    def check(self) -> None:
        """Raises Stopped where the work is to end."""
        if self.stop.is_set():
            raise Stopped


class Visits:
    """Visits by the key of each visitor's page, in a folder of the app's own.

    `bank` is the one that all share; without one, each visit has its own, which ends with it.
    """

    def __init__(self, folder: Path, bank: MotionBank | None = None) -> None:
        self.folder, self.bank = folder, bank
        folder.mkdir(exist_ok=True)
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._visits)

    def of(self, key: str) -> Visit:
        """The visit of a key, which is new where there is none. Old ones are thrown away."""
        with self._lock:
            visit = self._visits.pop(key, None) or self._new()
            self._visits[key] = visit  # which puts it behind all others
            visit.left = None
            self._sweep()
            return visit

    def stop(self, key: str) -> None:
        """Stop the work of a visitor."""
        with self._lock:
            if visit := self._visits.get(key):
                visit.stop.set()

    def leave(self, key: str) -> None:
        """Stop the work of a visitor whose page was closed, or has lost its connection: the same
        page may come back for a while.
        """
        self.stop(key)
        with self._lock:
            if visit := self._visits.get(key):
                visit.left = time.monotonic()

    def end(self) -> None:
        """Stop the work of all."""
        with self._lock:
            for visit in self._visits.values():
                visit.stop.set()

    def _new(self) -> Visit:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        if self.bank is not None:
            return Visit(folder, self.bank, self.folder / "stills")
        return Visit(folder, MotionBank(folder / "bank", create=True), folder / "stills")

    def _sweep(self) -> None:
        """Throw away what nobody will come back to, and what is too many."""
        now, left = time.monotonic(), {key: one.left for key, one in self._visits.items()}
        closed = [key for key, when in left.items() if when is not None]
        old = sum(now - (left[key] or 0.0) > KEPT for key in closed)
        closed.sort(key=lambda key: left[key] or 0.0)
        quietest = [key for key, when in left.items() if when is None]
        for key in (closed + quietest)[: max(old, len(left) - MOST)]:
            visit = self._visits.pop(key)
            visit.stop.set()
            shutil.rmtree(visit.folder, ignore_errors=True)
