"""Simulated time for code that sleeps: threads, of which one runs at a time, the one whose moment
has come.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable


class Clock:
    """Simulated seconds. Of all actors one runs at a time: the one whose moment has come, until it
    sleeps or ends.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, threading.Semaphore]] = []
        self._count, self._idle, self._mine = (
            itertools.count(),
            threading.Semaphore(0),
            threading.local(),
        )
        self._errors: list[BaseException] = []

    def start(self, moment: float, actor: Callable[[], None]) -> None:
        turn = threading.Semaphore(0)
        threading.Thread(target=self._live, args=(turn, actor), daemon=True).start()
        heapq.heappush(self._due, (moment, next(self._count), turn))

    def sleep(self, seconds: float) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._count), self._mine.turn))
        self._idle.release()
        self._mine.turn.acquire()

    def run(self) -> None:
        """Until all actors have ended. Raises what one of them raised."""
        while self._due and not self._errors:
            self.now, _, turn = heapq.heappop(self._due)
            turn.release()
            self._idle.acquire()
        if self._errors:
            raise self._errors[0]

    def _live(self, turn: threading.Semaphore, actor: Callable[[], None]) -> None:
        self._mine.turn = turn
        turn.acquire()
        try:
            actor()
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._idle.release()
