"""Measure a shard of samples in one process of a distributed run.

Processes start afresh, so this module imports little.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch.distributed

from ditflow.metrics import Sample, make_metrics
from tests.ditflow.metrics.colours import Colours, video

SHARDS = {"uneven": ([0, 1, 3, 4], [2]), "empty": ([0, 1, 2, 3, 4], []), "nothing": ([], [])}
COLOURS = ("red", "green", "blue", "yellow", "red")


def process(rank: int, folder: str) -> None:
    """Measure a shard of each case, and write what this process then knows of all shards."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    for case, shards in SHARDS.items():
        Path(folder, f"{case}-{rank}.json").write_text(json.dumps(measure(shards[rank])))
    torch.distributed.destroy_process_group()


def measure(chosen: Sequence[int]) -> dict[str, list]:
    """Mean and rows of two metrics over some of five samples.

    Entries lie across shards, and the fourth sample has no prompt.
    """
    metrics, results = make_metrics(["prompt_fidelity", "diversity"], clip=Colours()), {}
    for name, metric in metrics.items():
        metric.update([sample(index) for index in chosen])
        mean, rows = metric.compute().item(), [asdict(row) for row in metric.rows()]
        results[name] = [None if math.isnan(mean) else round(mean, 9), rows]
    return results


def sample(index: int) -> Sample:
    prompt = "" if index == 3 else "red"
    return Sample(
        video("red"),
        video("red", COLOURS[index]),
        prompt,
        f"clip-{index // 3}",
        f"entry-{index // 3}",
    )
