"""The rows of a plan that tell costs: operations, memory and time, and how each is known."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from ditflow.core.sizes import VideoSize
from ditflow.models import Model
from ditflow.sampling.guidance import MotionGuidance
from trainers.motion import costs
from trainers.motion.probe import measure_forward
from trainers.motion.progress_view import console_of, duration, plain

Rows = list[tuple[str, str, str]]
"""A name, how its value is known, and the value."""


def cost_rows(
    backbone: Model, size: VideoSize, batch_size: int, guidance: MotionGuidance | None
) -> Rows:
    """The costs that follow from the backbone alone, before a clip or an entry has been read."""
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
