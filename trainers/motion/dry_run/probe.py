"""The costs in a plan: operations, memory, and with `--measure` the seconds of a forward pass.

Seconds are measured on one block of the backbone, on this device.

The block has random weights. It sees a tiny video first and then larger ones, until it has seen one
of the size asked for, or until the next would take too long.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace

import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from ditflow.core.sizes import VideoSize
from ditflow.models import Model, sketch_backbone
from ditflow.sampling.guidance import MotionGuidance
from trainers.motion import cores
from trainers.motion.dry_run import costs
from trainers.progress.view import console_of, duration, plain

Rows = list[tuple[str, str, str]]
"""A name, how its value is known, and the value."""

PATIENCE = 60.0  # seconds that all passes together may take
PASSES, ENOUGH = 3, 1.0  # of each video, and seconds after which one is not seen again


@dataclass(frozen=True)
class Measured:
    """`seconds` of one sample of the size asked for through the whole transformer.

    `seen` is the largest video that went through one block. From there to the size asked for and to
    all blocks, seconds grow as operations do.
    """

    seconds: float
    seen: VideoSize


@torch.no_grad()
def measure_forward(backbone: Model, size: VideoSize, device: torch.device) -> Measured:
    """Time one block of a backbone on a device, with a progress bar."""
    name, dtype = backbone.spec.name, backbone.dtype
    probe = sketch_backbone(name, device=device, dtype=dtype, blocks=1)
    block = sketch_backbone(name, dtype=dtype, blocks=1)
    cores.settle(probe)  # as `fit` does
    end, seen, pace = time.monotonic() + PATIENCE, size, 0.0  # seconds an operation
    for video in tqdm(_growing(probe, size), desc="Measuring", unit="video", leave=False):
        work = costs.operations(block, video)
        if pace > 0 and time.monotonic() + pace * work > end:
            break
        seen, pace = video, _seconds(probe, video) / work
    return Measured(pace * costs.operations(backbone, size), seen)


def _growing(probe: Model, size: VideoSize) -> list[VideoSize]:
    """Videos from one token to the size asked for, each of two to four times the one before."""
    sizes = [size]
    while (smaller := _smaller(probe, sizes[-1])) != sizes[-1]:
        sizes.append(smaller)
    return sizes[::-1]


def _smaller(probe: Model, size: VideoSize) -> VideoSize:
    compression = probe.spec.compression
    if size.frames > compression.time:
        return replace(size, frames=size.frames // 2)
    token = compression.space * compression.patch  # pixels
    height, width = (max(token, side // 2 // token * token) for side in (size.height, size.width))
    return replace(size, height=height, width=width)


def _seconds(probe: Model, size: VideoSize) -> float:
    """Of the fastest pass."""
    latents, text = costs.sample_of(probe, size)
    times: list[float] = []
    while len(times) < PASSES and sum(times) < ENOUGH:
        began = time.perf_counter()
        output = probe.predict(latents, 500, text, picture=probe.blank(latents))
        assert output is not None and output.sum().isfinite()  # waits for the device
        times.append(time.perf_counter() - began)
    return min(times)


def cost_rows(
    backbone: Model, size: VideoSize, batch_size: int, guidance: MotionGuidance | None, plan: str
) -> Rows:
    """The costs that follow from the backbone alone, before a clip or an entry has been read. The
    `plan` of its memory, if there is one, says what is taken.
    """
    operations = costs.operations(backbone, size)
    dtype, weights = str(backbone.dtype).removeprefix("torch."), decimal(costs.weights(backbone))
    needed = decimal(int(costs.memory(backbone, size, batch_size, guidance)))
    besides = "on each device, besides the encoders, which come first and go"
    dtype = f"{backbone.spec.quantised} and {dtype}" if backbone.spec.quantised else dtype
    return [
        ("operations", "counted", f"{operations:.4g} in a forward pass of one sample of {size}"),
        ("weights", "counted", f"{weights}: {backbone.weights:.4g} numbers in {dtype}"),
        ("memory", "estimated", plan or f"about {needed} {besides}"),
    ]


@dataclass(frozen=True)
class Pace:
    """The speed of a run on its devices: the seconds of one forward pass, None if unknown."""

    devices: str
    ranks: int
    seconds: float | None

    def row(self, forwards: float) -> tuple[str, str, str]:
        if self.seconds is None:
            add = "add --measure to time one block of the backbone on this device"
            return ("time", "not measured", add)
        said = f"{duration(forwards * self.seconds / self.ranks)} on {self.devices}"
        return ("time", "estimated", f"{said}, from the work and the pass that was measured")


def pace_of(trainer: Trainer, backbone: Model, size: VideoSize, measure: bool) -> Pace:
    """The speed of a run. If `measure`, time a forward pass and print its seconds."""
    device, ranks = trainer.strategy.root_device, trainer.world_size
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    measured = measure_forward(backbone, size, device) if measure else None
    if measured is not None:
        ended = "" if measured.seen == size else f", since time was up before {size}"
        block = f"one of {backbone.spec.blocks} blocks on {measured.seen}{ended}"
        print_rows([("pass", "measured", f"{measured.seconds:.3g} s on {name}, by {block}")])
    return Pace(f"{ranks} x {name}", ranks, None if measured is None else measured.seconds)


@rank_zero_only
def print_rows(rows: Rows) -> None:
    """Print rows at once, also into a pipe, because the next ones may take a while."""
    table = Table(show_header=False, box=None)
    for width in (10, 12, None):  # so that consecutive tables line up
        table.add_column(min_width=width)
    for name, how, value in rows:
        said = Text(plain(value), overflow="fold")
        table.add_row(Text(name, style="bold"), Text(how, style="dim"), said)
    console_of(sys.stdout).print(table)
    sys.stdout.flush()
