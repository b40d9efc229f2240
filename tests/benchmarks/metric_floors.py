"""Measure what the motion metrics give for unrelated videos, the floor to read a score from.

python -m tests.benchmarks.metric_floors --clips 24

Each held-out clip of the synthetic world is compared with the clip of the next seed, and with
itself. The tracker is Lucas-Kanade.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import torch

from datamodules.synthetic import World
from ditflow.metrics import Metric, Sample, make_metrics
from ditflow.metrics.table import METRICS, ClipMetric


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=24, help="held-out clips, from seed 0")
    clips = [World().clip(seed) for seed in range(parser.parse_args().clips + 1)]
    of_motion = [name for name, kind in METRICS.items() if not issubclass(kind, ClipMetric)]
    metrics = make_metrics(of_motion)
    for first, second in pairwise(clips):
        for entry, generated in (("itself", first), ("another", second)):
            sample = Sample(first.frames, generated.frames, clip=first.name, entry=entry)
            for metric in metrics.values():
                metric.update([sample])
    for name, metric in metrics.items():
        print(f"{name}: itself {summary(metric, 'itself')}; another {summary(metric, 'another')}")


def summary(metric: Metric, entry: str) -> str:
    """Mean, range of the middle 90 % of values, and how many rows have a value."""
    rows = [row for row in metric.rows() if row.entry == entry]
    values = torch.tensor([row.value for row in rows if row.value is not None])
    low, high = values.quantile(torch.tensor([0.05, 0.95])).tolist()
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f}), {len(values)} of {len(rows)}"


if __name__ == "__main__":
    main()
