"""`--dry_run`: what `fit` or `predict` would do and what it would cost, and nothing is written.

The backbone's weights are not read. Each number says how it is known: counted, estimated, or
measured on this device, which is done only where `--measure` asks for it.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from datamodules.generations import Generation
from datamodules.library import one_line, reported
from datamodules.motion_tasks import MotionTaskModule
from datamodules.queue import inflight as records
from ditflow.bank import EntryError, EntryMetadata
from ditflow.compatibility import check_entry
from ditflow.core.sizes import VideoSize
from ditflow.models import Model, sketch_backbone
from ditflow.models.dtypes import default_dtype
from ditflow.sampling.guidance import MotionGuidance
from trainers.motion import costs
from trainers.motion.optimization import MotionOptimization
from trainers.motion.probe import measure_forward
from trainers.motion.progress_view import console_of, duration, plain

Rows = list[tuple[str, str, str]]  # a name, how its value is known, the value
FORWARDS = "forward passes of one sample through the whole transformer"


@dataclass(frozen=True)
class Work:
    """What is left of a library.

    `begun` are (names, next step) of batches that go on. `failed` says why clips cannot be done.
    Only clips that are `alike`, of one size, share a batch.
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
    _sketch(trainer, module, data)
    data.setup("fit")
    backbone, method, size = module.backbone, module.method, data.clips.references.size
    _print([("method", "", str(method)), *_costs(backbone, size, data.batch_size, method.guidance)])
    pace = _pace(trainer, backbone, size, measure)
    work = _work(module, data)
    forwards = _forwards_of_a_clip(module) * work.clip_steps / work.steps
    passes = f"{forwards:.4g} {FORWARDS}; a backward pass counts as two"
    rows = [*_counts(work), ("work", "counted", passes), pace.row(forwards)]
    _print([*rows, ("bank", "", data.path)])
    return _conclude(work.failed)


def plan_predict(
    trainer: Trainer, module: MotionOptimization, data: MotionTaskModule, measure: bool
) -> int:
    """Print the plan of `predict` and each video that it would refuse; 1 where there is one."""
    _sketch(trainer, module, data)
    data.setup("predict")
    left = [video for video in data.generations if not video.file.exists()]
    entries = _entries(data, left)
    size = _largest(data, entries.values())
    _print(_costs(module.backbone, size, 1, None))
    pace = _pace(trainer, module.backbone, size, measure)
    failed = _refused(module, data, left)
    todo = [video for video in left if video.file.stem not in failed]
    steps = sum(module.choices.steps or entries[video.entry].steps for video in todo)
    videos = f"{len(data.generations)} asked for, {len(data.generations) - len(left)} there"
    counts = {
        "videos": f"{videos}, {len(todo)} to make{_and_refused(failed)}",
        "steps": f"{steps}",
        "work": f"{2 * steps} {FORWARDS}",
    }
    rows = [(name, "counted", value) for name, value in counts.items()]
    _print([*rows, pace.row(2.0 * steps), ("folder", "", str(data.video_folder))])
    return _conclude(failed)


def _sketch(trainer: Trainer, module: MotionOptimization, data: MotionTaskModule) -> None:
    """Let module and data see each other and a backbone without weights.

    The Trainer does so with one that has them.
    """
    module.trainer = data.trainer = trainer
    trainer.strategy.connect(module)
    module.setup("")
    dtype = module.number_format or default_dtype(trainer.strategy.root_device)
    module.backbone = sketch_backbone(module.name, dtype=dtype)


def _work(module: MotionOptimization, data: MotionTaskModule) -> Work:
    """What is left for `fit`, once every clip that it would read has been read."""
    plan = data.clips.plan(data.attempts)
    failed = dict(plan.failed)
    data.clips.check(plan.todo, lambda name, error: failed.update({name: one_line(error)}))
    left = tuple(name for name in plan.todo if name not in failed)
    begun = [(record.names, record.step) for record in _disjoint(data.clips.begun(), set(left))]
    sizes = data.batch_size, module.iterations
    return Work(len(data.tasks), left, tuple(begun), failed, *sizes, data.clips.alike)


def _disjoint(begun: Iterable[records.Record], left: set[str]) -> Iterable[records.Record]:
    """The records that go on: of two with a clip in common the one that is further."""
    taken: set[str] = set()
    for record in sorted(begun, key=lambda record: (-record.step, record.key)):
        if left.intersection(record.names) and not taken.intersection(record.names):
            taken |= set(record.names)
            yield record


def _forwards_of_a_clip(module: MotionOptimization) -> float:
    """Up to the step that `fit` ends at. What comes after it is two passes a step."""
    method = module.method
    whole = method.guidance.forward_equivalents(method.schedule, module.backbone.spec)
    return whole - 2 * (len(method.schedule) - module.iterations)


def _counts(work: Work) -> Rows:
    done = work.asked - len(work.left) - len(work.failed)
    begun, left = f"{len(work.begun)} in flight", f"{len(work.left)} to do"
    clips = f"{work.asked} asked for, {done} done, {begun}, {left}{_and_refused(work.failed)}"
    steps = sum(steps for _, steps in work.batches)
    return [
        ("clips", "counted", clips),
        ("batches", "counted", f"{len(work.batches)} of at most {work.batch_size} clips"),
        ("steps", "counted", f"{steps}, {work.steps} for each new batch"),
    ]


def _and_refused(failed: Mapping[str, str]) -> str:
    return f", {len(failed)} refused" if failed else ""


def _entries(data: MotionTaskModule, left: Sequence[Generation]) -> dict[str, EntryMetadata]:
    """Of the entries that videos come from, without those that are damaged."""
    found = {}
    for name in dict.fromkeys(generation.entry for generation in left):
        with suppress(EntryError):
            found[name] = data.bank.metadata(name)
    return found


def _largest(data: MotionTaskModule, entries: Iterable[EntryMetadata]) -> VideoSize:
    """The size of the largest video that will be made; the backbone's where there is none."""
    sizes = (entry.size for entry in entries)
    largest = max(sizes, key=math.prod, default=None)
    return data.references().size if largest is None else VideoSize(*largest)


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
    blocks = module.choices.injection_blocks or ()
    for name in tqdm(names, desc="Reading", unit="entry", leave=False, disable=not names):
        with reported(name, failed.__setitem__):
            check_entry(module.backbone, data.bank[name], blocks)
    lost = [generation for generation in left if generation.entry in failed]
    return {generation.file.stem: one_line(failed[generation.entry]) for generation in lost}


def _costs(backbone: Model, size: VideoSize, batch_size: int, guidance: MotionGuidance | None) -> Rows:
    """What is known of a backbone before a clip or an entry has been read."""
    operations = costs.operations(backbone, size, backbone.spec.blocks)
    dtype, weights = str(backbone.dtype).removeprefix("torch."), decimal(costs.weights(backbone))
    needed = decimal(int(costs.memory(backbone, size, batch_size, guidance)))
    besides = "on each device, besides the encoders, which come first and go"
    return [
        ("operations", "counted", f"{operations:.4g} in a forward pass of one sample of {size}"),
        ("weights", "counted", f"{weights}: {backbone.weights:.4g} numbers in {dtype}"),
        ("memory", "estimated", f"about {needed} {besides}"),
    ]


@dataclass(frozen=True)
class Pace:
    """How long forward passes take on the devices of a run: `seconds`, None if not measured."""

    devices: str
    ranks: int
    seconds: float | None

    def row(self, forwards: float) -> tuple[str, str, str]:
        if self.seconds is None:
            add = "add --measure to time one block of the backbone on this device"
            return ("time", "not measured", add)
        said = f"{duration(forwards * self.seconds / self.ranks)} on {self.devices}"
        return ("time", "estimated", f"{said}, from the work and the pass that was measured")


def _pace(trainer: Trainer, backbone: Model, size: VideoSize, measure: bool) -> Pace:
    """Measure a forward pass and print its seconds, if that is asked for."""
    device, ranks = trainer.strategy.root_device, trainer.world_size
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    measured = measure_forward(backbone, size, device) if measure else None
    if measured is not None:
        ended = "" if measured.seen == size else f", since time was up before {size}"
        block = f"one of {backbone.spec.blocks} blocks on {measured.seen}{ended}"
        _print([("pass", "measured", f"{measured.seconds:.3g} s on {name}, by {block}")])
    return Pace(f"{ranks} x {name}", ranks, None if measured is None else measured.seconds)


@rank_zero_only
def _print(rows: Rows) -> None:
    """At once, also where nobody but a pipe reads: what comes next may take its time."""
    table = Table(show_header=False, box=None)
    for width in (10, 12, None):  # tables that follow each other stand in line
        table.add_column(min_width=width)
    for name, how, value in rows:
        said = Text(plain(value), overflow="fold")
        table.add_row(Text(name, style="bold"), Text(how, style="dim"), said)
    console_of(sys.stdout).print(table)
    sys.stdout.flush()


def _conclude(failed: Mapping[str, str]) -> int:
    """Name all that cannot be done, each on a line of its own. Returns the exit code."""
    _say(f"cannot be done: {name}: {reason}" for name, reason in failed.items())
    _say(["Nothing was written: this was a dry run."])
    return 1 if failed else 0


@rank_zero_only
def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(plain(line), flush=True)
