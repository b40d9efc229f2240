"""Measure `ditflow fit` on a quiet machine, and beside a process that keeps a core busy.

python -m tests.benchmarks.busy_core --clips 2 --repeats 2

Four ways to share the machine take turns, so that a machine that slows down slows all of them: one
process with all cores, one process with one thread, a process of one thread for each core, and
what `ditflow` chooses by itself. Seconds, processor seconds and page faults are those of the whole
command, from its start, with clips encoded and videos decoded. In brackets stand seconds over those
of the first way under the same load.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from datamodules.benchmark import SyntheticBenchmark
from datamodules.synthetic import MOTIONS, World
from ditflow.files import write_csv
from ditflow.video import write_video
from trainers.benchmark.machine import processor
from trainers.motion.cores import cores

ROOT = Path(__file__).resolve().parents[2]
LOADS = ("quiet", "busy")
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"  # until we end


@dataclass(frozen=True)
class Way:
    """A way to share the machine. `threads` None leaves OMP_NUM_THREADS unset."""

    name: str
    threads: int | None
    processes: int


@dataclass(frozen=True)
class Cost:
    """Cost of one clip: seconds, seconds of processor time, and thousands of page faults."""

    seconds: float
    processor: float
    faults: float


def ways() -> list[Way]:
    every = cores()
    return [
        Way(f"1 process, {every} threads", every, 1),
        Way("1 process, 1 thread", 1, 1),
        Way(f"{every} processes, 1 thread each", 1, every),
        Way("ditflow's choice, 1 process", None, 1),
    ]


@contextmanager
def load(kind: str) -> Iterator[None]:
    """A context in which `busy` keeps one core busy."""
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if kind == "busy" else None
    try:
        yield
    finally:
        if other is not None:
            other.kill()
            other.wait()


def fit(way: Way, folder: Path, options: argparse.Namespace) -> Cost:
    """Take the motion of all clips into a fresh bank, and write their videos."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    environment.pop("OMP_NUM_THREADS", None)
    if way.threads is not None:
        environment["OMP_NUM_THREADS"] = str(way.threads)
    with tempfile.TemporaryDirectory(dir=folder) as run:
        words = ["--model.backbone", options.backbone, "--model.steps", options.steps]
        words += ["--model.finish", "true", "--trainer.enable_progress_bar", "false"]
        words += ["--data.manifest", folder / "clips.csv", "--bank", run]
        words += ["--trainer.accelerator", "cpu", "--trainer.devices", way.processes]
        command = [sys.executable, "-m", "trainers.cli", "fit", *map(str, words)]
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
    assert os.waitstatus_to_exitcode(status) == 0, f"{way.name}: not all clips are in the bank"
    clips, work = options.clips, used.ru_utime + used.ru_stime
    return Cost(seconds / clips, work / clips, used.ru_minflt / 1000 / clips)


def write_clips(folder: Path, clips: int) -> None:
    """The demo's clips, and a manifest with the prompts that they are optimised with."""
    data = SyntheticBenchmark(clips, motions=MOTIONS, prompts=1)
    for clip in data.clips():
        write_video(folder / f"{clip.name}.mp4", data.video(clip, World().size), 8.0)
    rows = [
        (clip.name, f"{clip.name}.mp4", clip.prompts["prompt-1"], seed)
        for seed, clip in enumerate(data.clips())
    ]
    write_csv(folder / "clips.csv", ("name", "video", "prompt", "seed"), rows)


def table(costs: dict[tuple[Way, str], list[Cost]]) -> str:
    """A Markdown table of the medians over the repeats."""
    columns = "| way | load | seconds | processor seconds | thousand page faults |"
    lines = [columns, "|---" * 5 + "|"]
    first = {kind: _median(costs[ways()[0], kind], "seconds") for kind in LOADS}
    for (way, kind), all_ in costs.items():
        seconds, work, faults = (_median(all_, name) for name in ("seconds", "processor", "faults"))
        told = f"{seconds:.1f} ({seconds / first[kind]:.2f})"
        lines.append(f"| {way.name} | {kind} | {told} | {work:.1f} | {faults:.0f} |")
    return "\n".join(lines)


def _median(costs: list[Cost], name: str) -> float:
    return statistics.median(getattr(cost, name) for cost in costs)


def main() -> int:
    parser = argparse.ArgumentParser("busy_core", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=25, help="denoising steps of a clip")
    parser.add_argument("--backbone", default="tiny-rope")
    options = parser.parse_args()
    costs: dict[tuple[Way, str], list[Cost]] = {(way, kind): [] for way in ways() for kind in LOADS}
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), options.clips)
        for _ in range(options.repeats):
            for (way, kind), all_ in costs.items():
                with load(kind):
                    all_.append(fit(way, Path(folder), options))
                print(way.name, kind, all_[-1], file=sys.stderr, flush=True)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{processor()}, {cores()} cores, {versions}; {options}")
    print(table(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
