"""What the metrics of motion give for videos of the world that have nothing to do with each other:
`python -m tests.benchmarks.metric_floors --clips 24`.

A score is read from here upwards: each video of a held-out clip is compared with that of the next
seed, with Lucas-Kanade, and with itself.
"""

from __future__ import annotations

import argparse

import torch

from datamodules.synthetic import World
from ditflow.metrics import Metric, Sample, make_metrics
from ditflow.metrics.table import METRICS, ClipMetric


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=24, help="held-out clips, from seed 0")
    clips = [World().clip(seed) for seed in range(parser.parse_args().clips + 1)]
    metrics = make_metrics(
        [name for name, kind in METRICS.items() if not issubclass(kind, ClipMetric)]
    )
    for first, second in zip(clips, clips[1:], strict=False):
        for generated in (first, second):
            for metric in metrics.values():
                metric.update(
                    [
                        Sample(
                            first.frames,
                            generated.frames,
                            clip=first.name,
                            entry="itself" if generated is first else "another",
                        )
                    ]
                )
    for name, metric in metrics.items():
        print(f"{name}: itself {summary(metric, 'itself')}; another {summary(metric, 'another')}")


def summary(metric: Metric, entry: str) -> str:
    """Mean, and the range of the middle 90 % of values."""
    rows = [row for row in metric.rows() if row.entry == entry]
    values = torch.tensor([row.value for row in rows if row.value is not None])
    low, high = values.quantile(torch.tensor([0.05, 0.95])).tolist()
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f}), {len(values)} of {len(rows)}"


if __name__ == "__main__":
    main()
