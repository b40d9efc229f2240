"""The plan of `--dry_run`: what `fit` or `predict` would do, and what it would cost.

Nothing is written, and the backbone's weights are not read. Each number says how it is known:
counted, estimated, or measured on this device, if `--measure` asks for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from datamodules.faults import one_line, reported
from datamodules.motion_tasks import MotionTaskModule
from datamodules.queue.generation_queue import Generation
from datamodules.queue.inflight import InflightBatch
from ditflow.compatibility import check_entry, own_size
from ditflow.models import sketch_backbone
from trainers.motion.dry_run import costs
from trainers.motion.dry_run.probe import Rows, cost_rows, pace_of, print_rows
from trainers.motion.generated import largest, readable
from trainers.motion.instant import InstantMotion
from trainers.motion.memory import (
    counted,
    sketched,
    work_of_fit,
    work_of_predict,
)
from trainers.motion.optimization import MotionOptimization
from trainers.progress.view import plain

FORWARDS = "forward passes of one sample through the whole transformer"


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


def plan_fit(
    trainer: Trainer, module: MotionOptimization, data: MotionTaskModule, measure: bool
) -> int:
    """Print the plan of `fit` and each clip that it would refuse; 1 where there is one."""
    _connect(trainer, module, data)
    module.backbone, kept = sketched(module, data, work_of_fit)
    data.setup("fit")
    backbone, recipe, size = module.backbone, module.recipe, data.library.clips.size
    print_rows(
        [
            ("method", "", str(recipe)),
            *cost_rows(backbone, size, counted(data), recipe.guidance, kept),
        ]
    )
    pace = pace_of(trainer, backbone, size, measure)
    work = _workload(module, data)
    forwards = _forwards_of_a_clip(module) * work.clip_steps / work.steps
    most = "at most " if recipe.guidance.savings.adapts else ""
    passes = f"{most}{forwards:.4g} {FORWARDS}; a backward pass counts as two"
    counts = _counts(work, auto=data.batch_size == "auto")
    rows = [*counts, ("work", "counted", passes), pace.row(forwards)]
    print_rows([*rows, ("bank", "", data.path)])
    return _conclude(work.failed)


def plan_fields(
    trainer: Trainer, module: InstantMotion, data: MotionTaskModule, measure: bool
) -> int:
    """Print the plan of `fit --method instant` and each clip that it would refuse; 1 where there
    is one. There is no pass of a model to `measure`.
    """
    module.backbone = sketch_backbone(module.name)
    _connect(trainer, module, data)
    print_rows([("method", "", str(module.recipe))])
    data.setup("fit")
    work = _workload(module, data)
    print_rows([*_counts(work)[:1], ("bank", "", data.path)])
    return _conclude(work.failed)


def plan_predict(
    trainer: Trainer, module: MotionOptimization, data: MotionTaskModule, measure: bool
) -> int:
    """Print the plan of `predict` and each video that it would refuse; 1 where there is one."""
    _connect(trainer, module, data)
    data.setup("predict")
    module.backbone, kept = sketched(module, data, work_of_predict)
    left = [video for video in data.generations if not video.file.exists()]
    entries = readable(data, left)
    size = largest(module.backbone.spec, data, entries.values())
    print_rows(cost_rows(module.backbone, size, counted(data), None, kept))
    pace = pace_of(trainer, module.backbone, size, measure)
    failed = _refused(module, data, left)
    todo = [video for video in left if video.file.stem not in failed]
    steps, passes = 0, 0
    for entry in (entries[video.entry] for video in todo):
        own = costs.schedule_of(entry, module.backbone, module.choices)
        steps += len(own)
        passes += costs.passes_of(entry, module.backbone, module.injection, own)
    videos = f"{len(data.generations)} asked for, {len(data.generations) - len(left)} there"
    counts = {
        "videos": f"{videos}, {len(todo)} to make{_and_refused(failed)}",
        "steps": f"{steps}",
        "work": f"{passes} {FORWARDS}",
    }
    rows = [(name, "counted", value) for name, value in counts.items()]
    print_rows([*rows, pace.row(float(passes)), ("folder", "", str(data.video_folder))])
    return _conclude(failed)


def _connect(
    trainer: Trainer, module: MotionOptimization | InstantMotion, data: MotionTaskModule
) -> None:
    """Connect the module and the data as the Trainer does."""
    module.trainer = data.trainer = trainer
    trainer.strategy.connect(module)
    module.setup("")


def _workload(module: MotionOptimization | InstantMotion, data: MotionTaskModule) -> Workload:
    """Read every clip that `fit` would read, and find what is left."""
    library, plan = data.library, data.library.plan(data.attempts)
    failed = dict(plan.failed)

    def fail(name: str, error: Exception) -> None:
        failed[name] = one_line(error)

    library.batching.check(library.pick(plan.todo), fail)
    left = tuple(name for name in plan.todo if name not in failed)
    begun = [(batch.names, batch.step) for batch in _disjoint(library.begun(), set(left))]
    sizes = counted(data), module.iterations
    return Workload(len(data.tasks), left, tuple(begun), failed, *sizes, library.alike)


def _disjoint(begun: Iterable[InflightBatch], left: set[str]) -> Iterable[InflightBatch]:
    """The batches that go on. Of two with a clip in common it is the one with more steps done."""
    taken: set[str] = set()
    for batch in sorted(begun, key=lambda batch: (-batch.step, batch.key)):
        if left.intersection(batch.names) and not taken.intersection(batch.names):
            taken |= set(batch.names)
            yield batch


def _forwards_of_a_clip(module: MotionOptimization) -> float:
    """Forward passes up to the step that `fit` ends at."""
    recipe = module.recipe
    whole = recipe.guidance.forward_equivalents(recipe.schedule, module.backbone.spec)
    return whole - module.backbone.spec.passes_of(list(recipe.schedule)[module.iterations :])


def _counts(work: Workload, *, auto: bool = False) -> Rows:
    done = work.asked - len(work.left) - len(work.failed)
    begun, left = f"{len(work.begun)} in flight", f"{len(work.left)} to do"
    clips = f"{work.asked} asked for, {done} done, {begun}, {left}{_and_refused(work.failed)}"
    steps = sum(steps for _, steps in work.batches)
    batches = f"{len(work.batches)} of at most {work.batch_size} clips"
    if auto:
        batches += ", or fewer and larger: the run measures which size is fastest"
    return [
        ("clips", "counted", clips),
        ("batches", "counted", batches),
        ("steps", "counted", f"{steps}, {work.steps} for each new batch"),
    ]


def _and_refused(failed: Mapping[str, str]) -> str:
    return f", {len(failed)} refused" if failed else ""


def _refused(
    module: MotionOptimization, data: MotionTaskModule, left: Sequence[Generation]
) -> dict[str, str]:
    """Videos that `predict` would refuse, and why. Reads each entry as `predict` does.

    Raises ModelError for a number of steps that the backbone cannot take.
    """
    if module.choices.steps is not None:
        module.backbone.schedule(module.choices.steps)
    failed: dict[str, Exception] = {}
    names = dict.fromkeys(generation.entry for generation in left)
    for name in tqdm(names, desc="Reading", unit="entry", leave=False, disable=not names):
        with reported(name, failed.__setitem__):
            entry = data.bank[name]
            size = data.size_on(own_size(module.backbone, entry))
            how, steps = module.injection.of(entry), module.choices.steps
            check_entry(module.backbone, entry, how, steps, size)
    lost = [generation for generation in left if generation.entry in failed]
    return {generation.file.stem: one_line(failed[generation.entry]) for generation in lost}


def _conclude(failed: Mapping[str, str]) -> int:
    """Name all that cannot be done, each on a line of its own. Returns the exit code."""
    _say(f"cannot be done: {name}: {reason}" for name, reason in failed.items())
    _say(["Nothing was written: this was a dry run."])
    return 1 if failed else 0


@rank_zero_only
def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(plain(line), flush=True)
