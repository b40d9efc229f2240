"""The work that is left for `fit`: which clips, in which batches, and for how many steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from datamodules.faults import one_line
from datamodules.motion_tasks import MotionTaskModule
from datamodules.queue.inflight import InflightBatch
from trainers.motion.optimization import MotionOptimization


@dataclass(frozen=True)
class Workload:
    """The clips of a library that are left.

    `begun` holds the clips and the next step of each batch in flight. `failed` gives the reason for
    each clip that cannot be done. Clips share a batch only if `alike` is equal for them.
    """

    asked: int
    left: tuple[str, ...]
    begun: tuple[tuple[tuple[str, ...], int], ...]
    failed: dict[str, str]
    batch_size: int
    steps: int
    alike: Callable[[str], Hashable] = lambda name: None

    @property
    def batches(self) -> list[tuple[int, int]]:
        """(clips, steps) of each batch, those that go on first."""
        rest = set(self.left) - {name for names, _ in self.begun for name in names}
        fresh = [
            min(self.batch_size, clips - first)
            for clips in Counter(map(self.alike, rest)).values()
            for first in range(0, clips, self.batch_size)
        ]
        going_on = [(len(names), self.steps - step) for names, step in self.begun]
        return going_on + [(clips, self.steps) for clips in fresh]

    @property
    def clip_steps(self) -> int:
        return sum(clips * steps for clips, steps in self.batches)


def workload_of(module: MotionOptimization, data: MotionTaskModule) -> Workload:
    """Read every clip that `fit` would read, and find what is left."""
    library, plan = data.library, data.library.plan(data.attempts)
    failed = dict(plan.failed)

    def fail(name: str, error: Exception) -> None:
        failed[name] = one_line(error)

    library.batching.check(library.pick(plan.todo), fail)
    left = tuple(name for name in plan.todo if name not in failed)
    begun = [(batch.names, batch.step) for batch in _disjoint(library.begun(), set(left))]
    sizes = data.batch_size, module.iterations
    return Workload(len(data.tasks), left, tuple(begun), failed, *sizes, library.alike)


def _disjoint(begun: Iterable[InflightBatch], left: set[str]) -> Iterable[InflightBatch]:
    """The batches that go on. Of two with a clip in common it is the one with more steps done."""
    taken: set[str] = set()
    for batch in sorted(begun, key=lambda batch: (-batch.step, batch.key)):
        if left.intersection(batch.names) and not taken.intersection(batch.names):
            taken |= set(batch.names)
            yield batch
