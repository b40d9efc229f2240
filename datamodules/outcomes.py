"""Outcomes: what becomes of a batch. Its entries go into the bank, it is tried again, or its clips
fail.
"""

from __future__ import annotations

from collections.abc import Mapping

from datamodules.batching import MotionBatch
from datamodules.faults import NO_MEMORY, one_line, reported, say_failed, say_halved
from datamodules.frames import FrameBatch
from datamodules.library import Library
from datamodules.queue import inflight
from datamodules.queue.work_queue import Leg, WorkQueue
from ditflow.bank import BankEntry, BankError, EntryError
from ditflow.bank.failures import Failures
from ditflow.bank.remote_storage import open_folder


class Outcomes:
    """Takes the outcome of each batch to the bank and to this process's queue."""

    def __init__(self, library: Library, queue: WorkQueue) -> None:
        self.library, self.queue, self.bank = library, queue, library.bank

    def done(self) -> set[str]:
        """The clips that are done, by this process or by others."""
        return self.library.tasks.keys() - self.queue.left.keys() - self.queue.failed.keys()

    def publish(self, batch: MotionBatch | FrameBatch, entries: Mapping[str, BankEntry]) -> None:
        """Put the entries of a batch into the bank, and forget its state and earlier failures of
        its clips.
        """
        for name, entry in entries.items():
            with reported(name, self.fail):
                self._put(name, entry)
        for name in batch.leg.names:  # without a signal there are no entries
            Failures(open_folder(self.bank.path)).forget(name)
        self._drop(batch)
        self.queue.settle(batch.leg.names)

    def fail(self, name: str, error: Exception) -> None:
        """Report a clip that cannot be done, so that the others can go on."""
        self.queue.failed[name] = reason = one_line(error)
        say_failed(name, reason)
        if name not in self.bank and not self.queue.has_failed(name):
            self.bank.mark_failed(name, reason)
        self.queue.settle([name])

    def give_up(self, batch: MotionBatch | FrameBatch, error: Exception) -> None:
        """Try a failed batch in another way: from its first step if its saved state is damaged,
        otherwise in halves. A single clip fails.
        """
        self._drop(batch)
        if isinstance(error, EntryError) and batch.leg.record is not None:
            print(f"\n{', '.join(batch.leg.names)} will be begun again: {error}", flush=True)
            return self.queue.begin_again(batch.leg)
        self.halve(batch.leg, error)

    def halve(self, leg: Leg, error: Exception) -> None:
        """Try clips that failed together in halves. A single clip fails."""
        if len(leg.names) == 1:
            return self.fail(leg.names[0], error)
        say_halved(leg.names, error)
        self.queue.halve(leg, smaller=isinstance(error, NO_MEMORY))

    def _put(self, name: str, entry: BankEntry) -> None:
        """Publish an entry, unless another process has published it first: results of different
        devices may differ in bits. Raises ValueError where the bank's entry means something else.
        """
        try:
            if name not in self.bank:
                self.bank.put(name, entry)
        except BankError:
            if name not in self.bank:
                raise
            self.library.check_same(name)

    def _drop(self, batch: MotionBatch | FrameBatch) -> None:
        inflight.drop(self.bank, inflight.key_of(batch.leg.names, batch.settings))
