"""What each control of a motion does: measured against asked, on held-out clips.

A video is followed back to its first frame as a clip is. Its field is compared with the one that
was asked for: the clip's, after the change. Results are kept as they come: a run that was stopped
goes on.

python -m tests.benchmarks.instant_controls tiny-rope
"""

# B batch, T frames, C channels, Y X pixel rows and columns

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.synthetic import SyntheticClip, World, obeys
from ditflow.fields.changes import changed
from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.sources import DIS, field_of
from tests.benchmarks.embedded_backbone import other_prompt
from tests.benchmarks.instant import Bench, Row, read
from trainers.benchmark.statistics import interval

STRENGTHS, WINDOWS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0), (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
CHANGES = (
    *("reversed", "mirrored", "mirrored top-bottom", "rotated 90", "paced 2", "paced 0.5"),
    *("camera", "objects", "restricted 0 0 0.5 1", "restricted 0 0 0.5 1 moving", "smoothed"),
)
SEED, BATCH = 7, 8


@dataclass(frozen=True)
class Control:
    """Settings of an instant motion, and a change of the field in words."""

    name: str
    settings: dict[str, Any]
    change: str = ""


CONTROLS = [
    *(Control(f"strength {value:g}", {"strength": value}) for value in STRENGTHS),
    *(Control(f"window {value:g}", {"window": value}) for value in WINDOWS),
    *(Control(change, {}, change) for change in CHANGES),
]


class Changed(Bench):
    """A backbone whose fields are changed."""

    change = ""

    def field(self, clip: SyntheticClip, source: str) -> MotionField:
        return changed(super().field(clip, source), self.change)


def compared(asked: MotionField, frames: Tensor) -> dict[str, float]:
    """Cosine and speed of a video uint8 (T, C, Y, X): its field and the one that was asked for.

    Cells count as much as the asked one is trusted there. A video that holds no motion has 0.
    """
    try:
        made = field_of(frames, DIS, "video")
    except FieldError:
        return {"motion": 0.0, "speed": 0.0}
    made = made.resampled(asked.times, asked.cells, asked.frames)
    weight = asked.confidence[:, None].sqrt()
    wanted, got = (asked.displacement * weight).flatten(), (made.displacement * weight).flatten()
    along = float(wanted @ got)
    lengths = float(wanted.norm() * got.norm())
    return {
        "motion": along / lengths if lengths else 0.0,
        "speed": along / float(wanted @ wanted) if wanted.any() else 0.0,
    }


def measure(bench: Changed, file: Path) -> None:
    """Write what is missing into a file of JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    have = {(r["control"], r["clip"]) for r in read(file)}
    for control in CONTROLS:
        left = [clip for clip in bench.clips if (control.name, clip.name) not in have]
        for first in range(0, len(left), BATCH):
            part = left[first : first + BATCH]
            bench.change = control.change
            texts = [other_prompt(bench.world, clip, 1) for clip in part]
            videos = bench.videos(Row("instant", control.settings), part, texts, SEED)
            with file.open("a") as out:
                for clip, text, frames in zip(part, texts, videos, strict=True):
                    told = {"control": control.name, "clip": clip.name, "kind": clip.motion}
                    told |= compared(bench.field(clip, "dis"), frames)
                    out.write(json.dumps(told | {"prompt": float(obeys(frames, text))}) + "\n")
        print(control.name, flush=True)


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: means over clips, with the 95 % bootstrap interval of motion."""
    lines = ["| control | motion | speed | prompt | clips |", "|---|---|---|---|---|"]
    for control in CONTROLS:
        rows = [r for r in results if r["control"] == control.name]
        if not rows:
            continue
        motion, speed, prompt = ([r[key] for r in rows] for key in ("motion", "speed", "prompt"))
        found, fast, obeyed = map(interval, (motion, speed, prompt))
        ends = f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
        numbers = f"{ends} | {fast.mean:.2f} | {obeyed.mean:.0%} | {len(rows)}"
        lines.append(f"| {control.name} | {numbers} |")
    return "\n".join(lines) + "\n"


def write_picture(results: list[dict[str, Any]], file: Path) -> None:
    """Motion, speed and obedience against strength and window."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for axis, (name, values) in zip(
        axes, {"strength": STRENGTHS, "window": WINDOWS}.items(), strict=True
    ):
        for key, colour in (("motion", "#3b6ea5"), ("speed", "#c8553d"), ("prompt", "#7a9a4b")):
            rows = [
                [r[key] for r in results if r["control"] == f"{name} {value:g}"] for value in values
            ]
            means = [interval(row).mean for row in rows]
            axis.plot(values, means, "o-", color=colour, label=key)
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--out", default="runs/instant")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = World()
    clips = [world.clip(seed) for seed in range(options.clips)]
    file = Path(options.out) / f"{options.backbone}-controls.jsonl"
    measure(Changed(options.backbone, clips, world), file)
    text = table(read(file))
    file.with_suffix(".md").write_text(text)
    print(text)
    write_picture(read(file), file.with_suffix(".png"))


if __name__ == "__main__":
    main()
