"""Clips per hour of `ditflow fit` on N processes, against N times those of one process with as many
threads.

python -m tests.benchmarks.throughput --processes 2 --clips 6 --repeats 3

One process and N processes take turns, so that a machine that slows down slows both. Each process
has `--clips` clips to do; they are encoded before, and time runs from the first process that begins
to optimise to the last that has nothing left to do. What imports and loading take is not in it.
The ratio of processor time a clip tells on a busy machine what the ratio of clips per hour can tell
on an idle one only: whether sharing costs work.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

ROOT = Path(__file__).resolve().parents[2]


class Clock(Callback):
    """Each rank notes when its work begins and ends, and what processor time it took: seconds of
    the machine's own clock, which all processes share.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        self._began, self._used = time.clock_gettime(time.CLOCK_MONOTONIC), time.process_time()

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        note = {
            "began": self._began,
            "ended": time.clock_gettime(time.CLOCK_MONOTONIC),
            "processor": time.process_time() - self._used,
        }
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(note))


def write_library(folder: Path, clips: int, backbone: str) -> Path:
    """Clips of the synthetic world with their manifest, encoded into `folder/cache`."""
    from datamodules.encoding_cache import EncodingCache
    from datamodules.manifest import read_manifest
    from datamodules.synthetic import World
    from ditflow.models import load_backbone
    from ditflow.models.presets import recommended
    from ditflow.video import write_video

    loaded = load_backbone(backbone, device="cpu")
    world, manifest = World(loaded.spec.size), folder / "clips.csv"
    made = [world.clip(seed) for seed in range(clips)]
    for number, clip in enumerate(made):
        write_video(folder / f"clip{number:03d}.mp4", clip.frames, 8.0)
    manifest.write_text(
        "video,prompt\n"
        + "".join(f"clip{number:03d}.mp4,{clip.prompt}\n" for number, clip in enumerate(made))
    )
    references = EncodingCache(str(folder / "cache"), loaded, loaded.spec.size)
    for task in read_manifest(manifest):
        references.clip(task)
        references.text([task.prompt, recommended(loaded.spec).negative_prompt, ""])
    return manifest


def measure(
    folder: Path, manifest: Path, processes: int, arguments: argparse.Namespace
) -> dict[str, float]:
    """Fit a fresh bank and give its clips per hour, and processor seconds a clip."""
    with tempfile.TemporaryDirectory(dir=folder) as run:
        few = Path(run) / "clips.csv"
        lines = manifest.read_text().splitlines()[: 1 + processes * arguments.clips]
        few.write_text("\n".join([lines[0], *(str(folder / line) for line in lines[1:])]) + "\n")
        words = [
            "--bank",
            f"{run}/bank",
            "--data.manifest",
            few,
            "--data.cache",
            folder / "cache",
            "--model.backbone",
            arguments.backbone,
        ]
        words += [
            "--model.steps",
            arguments.steps,
            "--trainer.accelerator",
            "cpu",
            "--trainer.devices",
            processes,
            "--trainer.enable_progress_bar",
            "false",
        ]
        words += [
            "--trainer.callbacks+=tests.benchmarks.throughput.Clock",
            "--trainer.callbacks.folder",
            run,
        ]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(arguments.threads),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-m", "trainers.cli", "fit", *map(str, words)]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        notes = [json.loads((Path(run) / f"{rank}.json").read_text()) for rank in range(processes)]
        done = len(list((Path(run) / "bank" / "entries").glob("*.safetensors")))
    assert done == len(lines) - 1, f"{done} of {len(lines) - 1} clips are in the bank"
    seconds = max(note["ended"] for note in notes) - min(note["began"] for note in notes)
    return {
        "processes": processes,
        "clips_per_hour": 3600 * done / seconds,
        "processor_seconds_per_clip": sum(note["processor"] for note in notes) / done,
    }


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both in turn, `repeats` times; a ratio for each turn."""
    turns = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = write_library(folder, arguments.processes * arguments.clips, arguments.backbone)
        for _ in range(arguments.repeats):
            one, many = (
                measure(folder, manifest, processes, arguments)
                for processes in (1, arguments.processes)
            )
            ratio = many["clips_per_hour"] / (arguments.processes * one["clips_per_hour"])
            work = one["processor_seconds_per_clip"] / many["processor_seconds_per_clip"]
            turns.append({"one": one, "many": many, "ratio": ratio, "processor_ratio": work})
            print(json.dumps(turns[-1]), flush=True)
    ratios, work = (
        [turn["ratio"] for turn in turns],
        statistics.median(turn["processor_ratio"] for turn in turns),
    )
    return {
        **vars(arguments),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "processor_ratio": work,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each process, in both cases")
    parser.add_argument("--clips", type=int, default=6, help="for each process")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--steps",
        type=int,
        default=10,
        help="denoising steps of a clip; the recommended part of them is guided",
    )
    parser.add_argument("--backbone", default="tiny-rope")
    parser.add_argument(
        "--at_least", type=float, default=0.0, help="exit with 1 where the median ratio is lower"
    )
    result = compare(parser.parse_args())
    print(json.dumps(result))
    return 0 if result["ratio"] >= result["at_least"] else 1


if __name__ == "__main__":
    sys.exit(main())
