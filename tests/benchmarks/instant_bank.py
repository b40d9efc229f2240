"""How fast `ditflow fit --method instant` builds a bank of clips, on one process and on two.

python -m tests.benchmarks.instant_bank --clips 200
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from datamodules.synthetic import World
from ditflow.video import write_video


def seconds(clips: Path, bank: Path, processes: int) -> float:
    """Of a whole run, from the start of the command to its end."""
    command = [str(Path(sys.executable).with_name("ditflow")), "fit", "--method", "instant"]
    command += ["--bank", str(bank), "--data.videos", str(clips / "*.mp4")]
    command += ["--trainer.devices", str(processes)]
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=200)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        clips, world = Path(folder) / "clips", World()
        clips.mkdir()
        for seed in range(options.clips):
            clip = world.clip(seed)
            write_video(clips / f"{clip.name}.mp4", clip.frames, fps=8)
        for processes in (1, 2):
            bank = Path(folder) / f"bank{processes}"
            took = seconds(clips, bank, processes)
            entries = list((bank / "entries").glob("*.safetensors"))
            size = sum(entry.stat().st_size for entry in entries) / len(entries)
            rate, kilobytes = len(entries) / took, size / 1024
            print(f"{processes} at once: {len(entries)} clips in {took:.1f} s, {rate:.2f} a second")
            print(f"{kilobytes:.0f} KiB an entry", flush=True)


if __name__ == "__main__":
    main()
