"""Measure what a command on an embedded model costs from its start, here and in an older checkout.

python -m tests.benchmarks.embedded_seconds --against ../older --repeats 5

Both take turns, so that a machine that slows down slows both. Both have their bytecode: run
`python -m compileall` in them before. `start` reads the options of `fit`
and does nothing; `fit` optimises one clip; `predict` makes one video of its entry. Processor
seconds are those of the whole command and of all its processes: median, least and most. The ratio
is the median of the ratios of each turn.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from datamodules.synthetic import World
from ditflow.video import write_video

ROOT = Path(__file__).resolve().parents[2]


PARTS = ("start", "fit", "predict")


def commands(folder: Path, backbone: str, parts: int) -> Iterator[tuple[str, list[str]]]:
    """The first of them, each of which begins where the one before has ended."""
    shared = ["--config", f"configs/{backbone}.yaml", "--bank", str(folder / "bank")]
    fit = ["fit", *shared, "--data.manifest", str(folder.parent / "clips.csv")]
    prompts = ["--data.prompts", str(folder.parent / "prompts.txt")]
    predict = ["predict", *shared, *prompts, "--out", str(folder / "videos")]
    words = [*fit, "--print_config"], fit, predict
    yield from list(zip(PARTS, words, strict=True))[:parts]


def spent(checkout: Path, words: list[str]) -> float:
    """Processor seconds of a command of this checkout. Raises CalledProcessError where it fails."""
    variables = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "trainers.cli", *words]
    subprocess.run(command, cwd=checkout, env=variables, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--backbone", default="tiny-rope")
    parser.add_argument("--parts", type=int, choices=(1, 2, 3), default=3)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    costs: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_video(folder / "clip.mp4", World().clip(0).frames, 8.0)
        (folder / "clips.csv").write_text("video,prompt\nclip.mp4,blue clouds\n")
        (folder / "prompts.txt").write_text("red clouds\n")
        for turn in range(options.repeats):
            runs = (
                commands(folder / f"{name}{turn}", options.backbone, options.parts)
                for name in ("older", "here")
            )
            for (part, older), (_, here) in zip(*runs, strict=True):
                both = spent(options.against.resolve(), older), spent(ROOT, here)
                costs.setdefault(part, []).append(both)
    print(f"| {options.backbone} | older checkout | here | ratio |\n| --- | --- | --- | --- |")
    for part, pairs in costs.items():
        shown = [
            f"{statistics.median(side):.1f} s ({min(side):.1f} to {max(side):.1f})"
            for side in zip(*pairs, strict=True)
        ]
        ratios = [here / older for older, here in pairs]
        about = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {part} | {shown[0]} | {shown[1]} | {about} |")


if __name__ == "__main__":
    main()
