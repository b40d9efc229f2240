"""`--dry_run`: what `fit` or `predict` would do and what it would cost, and nothing written. The backbone's weights are not read."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from datamodules import records
from datamodules.motion_tasks import MotionTaskModule
from ditflow.backbones import sketch_backbone
from trainers import costs
from trainers.motion_optimization import MotionOptimization
from trainers.progress_view import ROWS, console_of, duration, plain

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Work:
    """What is left of a library. `begun` are (names, next step) of batches that go on; `failed` gives the reasons of clips that cannot be done."""

    asked: int
    left: tuple[str, ...]
    begun: tuple[tuple[tuple[str, ...], int], ...]
    failed: dict[str, str]
    batch_size: int
    steps: int

    @property
    def batches(self) -> list[tuple[int, int]]:
        """(clips, steps) of each batch, those that go on first."""
        rest = len(set(self.left) - {name for names, _ in self.begun for name in names})
        fresh = [self.batch_size] * (rest // self.batch_size) + [rest % self.batch_size] * (rest % self.batch_size > 0)
        return [(len(names), self.steps - step) for names, step in self.begun] + [(clips, self.steps) for clips in fresh]

    @property
    def clip_steps(self) -> int:
        return sum(clips * steps for clips, steps in self.batches)


def plan_fit(trainer: Trainer, module: MotionOptimization, data: MotionTaskModule) -> int:
    """Print the plan of `fit`; 1 where clips cannot be done, as `fit` itself would return."""
    _sketch(trainer, module, data)
    data.setup("fit")
    work = _work(module, data)
    forwards = _forwards_of_a_clip(module) * work.clip_steps / work.steps
    rows = [
        ("method", str(module.method)),
        ("clips", f"{work.asked} asked for, {work.asked - len(work.left) - len(work.failed)} done, {len(work.begun)} in flight, {len(work.left)} to do"),
        ("batches", f"{len(work.batches)} of at most {work.batch_size} clips"),
        ("steps", f"{sum(steps for _, steps in work.batches)}, {work.steps} for each new batch"),
        *_costs(trainer, module, data, forwards),
        ("bank", data.path),
    ]
    _print(rows, [f"{name}: {reason}" for name, reason in work.failed.items()])
    return 1 if work.failed else 0


def plan_predict(trainer: Trainer, module: MotionOptimization, data: MotionTaskModule) -> int:
    """Print the plan of `predict`."""
    _sketch(trainer, module, data)
    data.setup("predict")
    left = [generation for generation in data.generations if not generation.file.exists()]
    steps = {name: module.choices.steps or data.bank.metadata(name).steps for name in {generation.entry for generation in left}}
    denoising = sum(steps[generation.entry] for generation in left)
    rows = [
        ("videos", f"{len(data.generations)} asked for, {len(data.generations) - len(left)} there, {len(left)} to make"),
        ("steps", f"{denoising}"),
        *_costs(trainer, module, data, 2.0 * denoising),
        ("folder", str(data.video_folder)),
    ]
    _print(rows, [])
    return 0


def _sketch(trainer: Trainer, module: MotionOptimization, data: MotionTaskModule) -> None:
    """Let module and data see each other and a backbone without weights, as the Trainer does with one that has them."""
    module.trainer = data.trainer = trainer
    trainer.strategy.connect(module)
    module.setup("")
    dtype = module.number_format or ("float32" if trainer.strategy.root_device.type == "cpu" else "bfloat16")
    module.backbone = sketch_backbone(module.name, dtype=dtype)


def _work(module: MotionOptimization, data: MotionTaskModule) -> Work:
    plan = data.clips.plan(data.attempts)
    begun = [(record.names, record.step) for record in _disjoint(data.clips.begun(), set(plan.todo))]
    return Work(len(data.tasks), plan.todo, tuple(begun), dict(plan.failed), data.batch_size, module.iterations)


def _disjoint(begun: Iterable[records.Record], left: set[str]) -> Iterable[records.Record]:
    """The records that go on: of two with a clip in common the one that is further."""
    taken: set[str] = set()
    for record in sorted(begun, key=lambda record: (-record.step, record.key)):
        if left.intersection(record.names) and not taken.intersection(record.names):
            taken |= set(record.names)
            yield record


def _forwards_of_a_clip(module: MotionOptimization) -> float:
    """Up to the step that `fit` ends at; what comes after it is plain denoising with two passes a step."""
    method = module.method
    whole = method.guidance.forward_equivalents(method.schedule, module.backbone.spec.blocks)
    return whole - 2 * (len(method.schedule) - module.iterations)


def _costs(trainer: Trainer, module: MotionOptimization, data: MotionTaskModule, forwards: float) -> Rows:
    """Work, memory and time."""
    device, ranks, size = trainer.strategy.root_device, trainer.world_size, data.references().size
    guidance = module.method.guidance if data.tasks else None
    needed = costs.memory(module.backbone, size, data.batch_size if data.tasks else 1, guidance)
    forward = costs.seconds_of_a_forward(module.name, size, device, module.backbone.dtype)
    return [
        ("work", f"{forwards:.4g} forward passes of one sample through the whole transformer"),
        ("memory", f"about {decimal(int(needed))} on each device, besides the encoders, which come first and go"),
        ("time", f"{duration(forwards * forward / ranks)} on {ranks} x {_name(device)}, at {forward:.3g} s for a forward pass there"),
    ]


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@rank_zero_only
def _print(rows: Rows, problems: list[str]) -> None:
    console = console_of(sys.stdout)
    table = Table(show_header=False, box=None)
    for name, value in rows:
        table.add_row(Text(name, style="bold"), Text(plain(value), overflow="fold"))
    console.print(table)
    for problem in problems[:ROWS]:
        console.print(Text(f"cannot be done: {plain(problem)}"))
    if len(problems) > ROWS:
        console.print(Text(f"… and {len(problems) - ROWS} more"))
    console.print("Nothing was written: this was a dry run.")
