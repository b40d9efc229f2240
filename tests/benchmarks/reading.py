"""Measure the time and memory of `read_video` against bare decoding of the same frames.

python -m tests.benchmarks.reading

A 1080p mp4 of a moving picture is written once. Bare decoding is PyAV's, from the first frame to
the last wanted one. It turns each wanted frame into RGB, but resizes, checks and keeps none. Each
case runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from trainers.benchmark.machine import processor

SIZE = (480, 720)
CASES: dict[str, dict[str, Any]] = {
    "25 frames from the first": {"frames": 25, "size": SIZE},
    "49 frames, stride 20": {"frames": 49, "stride": 20, "size": SIZE},
    "49 frames at 2 a second": {"frames": 49, "fps": 2.0, "size": SIZE},
    "25 frames from frame 900": {"frames": 25, "start": 900, "size": SIZE},
    "all 1,000, at 240x360": {"size": (240, 360)},
}


def write(path: Path, frames: int) -> None:
    """Write a texture that slides over the screen, encoded with B-frames."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (135, 480, 3), np.uint8)
    texture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))  # 1080 x 3840
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"preset": "veryfast", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = 1080, 1920, "yuv420p"
        for index in range(frames):
            picture = np.ascontiguousarray(np.roll(texture, 2 * index, axis=1)[:, :1920])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


def read(path: Path, case: dict[str, Any]) -> dict[str, float]:
    """Seconds, MiB of the frames, and MiB at the peak beyond frames and program."""
    from ditflow.video import read_video

    before, began = _peak(), time.perf_counter()
    frames = read_video(path, **case).frames
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "kept": frames.numel() / 2**20,
        "more": _peak() - before - frames.numel() / 2**20,
    }


def bare(path: Path, case: dict[str, Any]) -> dict[str, float]:
    start, stride = case.get("start", 0), case.get("stride", 15 if "fps" in case else 1)
    last = start + stride * (case.get("frames", 1000) - 1)
    began = time.perf_counter()
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for number, frame in enumerate(container.decode(video=0)):
            if number >= start and (number - start) % stride == 0:
                frame.to_ndarray(format="rgb24")
            if number == last:
                break
    return {"seconds": time.perf_counter() - began}


def _peak() -> float:
    """Peak memory of this process in MiB.

    getrusage would begin with the memory of the process that started this one.
    """
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def in_process(how: str, path: Path, case: dict[str, Any]) -> dict[str, float]:
    module = "tests.benchmarks.reading"
    command = [sys.executable, "-m", module, "--run", how, str(path), json.dumps(case)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser("reading", description=__doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--file", type=Path, help="a 1080p file that is there, instead of a new one"
    )
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        how, path, case = options.run
        print(json.dumps({"read": read, "bare": bare}[how](Path(path), json.loads(case))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "clip.mp4"
        if options.file is None:
            write(path, options.frames)
        versions = f"Python {platform.python_version()}, PyAV {av.__version__}"
        print(f"{processor()}, {versions}, {path.stat().st_size / 1e6:.0f} MB")
        print("| frames | seconds | of bare decoding | MiB of the frames | MiB more at the peak |")
        print("|---|---|---|---|---|")
        for name, case in CASES.items():
            pairs = [
                (in_process("read", path, case), in_process("bare", path, case))
                for _ in range(options.repeats)
            ]
            seconds = statistics.median(ours["seconds"] for ours, _ in pairs)
            ratio = statistics.median(ours["seconds"] / theirs["seconds"] for ours, theirs in pairs)
            kept, more = pairs[0][0]["kept"], statistics.median(ours["more"] for ours, _ in pairs)
            print(f"| {name} | {seconds:.2f} | {ratio:.2f} | {kept:.0f} | {more:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
