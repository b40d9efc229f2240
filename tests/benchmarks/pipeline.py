"""What a motion costs on a stock pipeline: paired runs of an embedded model.

    python -m tests.benchmarks.pipeline tiny-rope tiny-wan

Each pair runs the pipeline plain and with a motion field, in an order that alternates, and compares
their processor time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import diffusers
import torch

from datamodules.synthetic import World
from ditflow import load_motion
from ditflow.fields.field import MotionField
from ditflow.fields.sources import DIS, field_of
from ditflow.resources import shipped


def seconds(pipe: Any, steps: int) -> float:
    """Processor time of one video."""
    began = time.process_time()
    pipe(
        "red clouds",
        height=64,
        width=64,
        num_frames=25,
        num_inference_steps=steps,
        guidance_scale=1.5,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    )
    return time.process_time() - began


def pair(pipe: Any, field: MotionField, steps: int, first: bool) -> float:
    """The ratio of a call with a motion to a plain one, which comes `first` or second."""
    plain = seconds(pipe, steps) if first else 0.0
    with load_motion(pipe, field):
        moved = seconds(pipe, steps)
    return moved / (plain if first else seconds(pipe, steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=25)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.models:
        pipe = diffusers.DiffusionPipeline.from_pretrained(shipped("checkpoints", name))
        pipe.set_progress_bar_config(disable=True)
        field = field_of(World().clip(0).frames, DIS, "clip")
        seconds(pipe, 2)  # the first call of a process is slower
        ratios = [pair(pipe, field, given.steps, bool(i % 2)) for i in range(given.pairs)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"| `{name}` | {middle:.3f} | {low:.3f} to {high:.3f} | {given.pairs} |", flush=True)


if __name__ == "__main__":
    main()
