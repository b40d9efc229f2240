"""How far large motions come out: measured against asked, for pans, zooms and rotations.

The fields are exact. What a video does is measured by optical flow between neighbouring times: an
affine motion is fitted to each step, and all are composed. So a pan counts beyond the frame too.
Results are kept as they come: a run that was stopped goes on.

python -m tests.benchmarks.instant_curves tiny-rope
"""

# T frames, C channels, Y X pixel rows and columns, F times, H W rows and columns of cells

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.synthetic import World, background_prompt
from ditflow.fields.field import FieldSource, MotionField, cell_places
from ditflow.fields.fill import affine_fit
from ditflow.fields.flow import optical_flow
from ditflow.fields.following import measured_times, steps
from tests.benchmarks.instant import Bench, Row, read

AMOUNTS = {
    "pan": (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0),  # frames to the right
    "zoom": (1 / 2, 2 / 3, 4 / 5, 5 / 4, 3 / 2, 2.0),  # growth
    "rotation": (15.0, 30.0, 45.0, 60.0, 90.0),  # degrees, clockwise
}
UNITS = {"pan": "frames", "zoom": "growth", "rotation": "degrees"}
FRAMES, CELLS = 25, 16
SEEDS, PALETTES = (7, 8), ("blue", "red")


@dataclass(frozen=True)
class Asked:
    """A motion of square frames: content goes so far, evenly over the clip."""

    motion: str
    amount: float

    @property
    def name(self) -> str:
        return f"{self.motion} {self.amount:g}"

    def back(self, share: float) -> Tensor:
        """The affine map (3, 3) of places, from the centre, to where they were at the start."""
        turn, scale, moved = 0.0, 1.0, 0.0
        if self.motion == "pan":
            moved = -self.amount * share
        elif self.motion == "zoom":
            scale = self.amount**-share
        else:
            turn = -math.radians(self.amount * share)
        cos, sin = scale * math.cos(turn), scale * math.sin(turn)
        return torch.tensor([[cos, -sin, moved], [sin, cos, 0], [0, 0, 1]])

    @property
    def field(self) -> MotionField:
        times = range(0, FRAMES, 2)
        places = cell_places(CELLS, CELLS) - 0.5
        at = torch.cat([places, torch.ones(1, CELLS, CELLS)])
        maps = torch.stack([self.back(time / (FRAMES - 1)) for time in times])
        moved = torch.einsum("fij,jyx->fiyx", maps, at)[:, :2] - places
        told = tuple(map(float, times)), FRAMES, 1.0, FieldSource("exact", self.name)
        return MotionField(moved, torch.ones(len(moved), CELLS, CELLS), *told)


class Curves(Bench):
    """A backbone that is asked for motions instead of clips."""

    def field(self, clip: Any, source: str) -> MotionField:
        return clip.field


def measured(frames: Tensor) -> dict[str, float]:
    """How far a video uint8 (T, C, Y, X) of square frames goes, in the units of AMOUNTS."""
    whole = torch.eye(3, dtype=torch.float64)
    for step in steps(frames, measured_times(len(frames)), optical_flow):
        fit = affine_fit(step.back[None], step.trust[None])[0]  # (3, 2): now -> before
        back = torch.eye(3, dtype=torch.float64)
        back[:2] += fit.mT
        whole = whole @ back
    forth = torch.linalg.inv(whole)
    turned = torch.atan2(forth[1, 0] - forth[0, 1], forth[0, 0] + forth[1, 1])
    return {
        "pan": float(forth[0, 2]),
        "zoom": float(torch.linalg.det(forth[:2, :2]).clamp(min=0).sqrt()),
        "rotation": math.degrees(float(turned)),
    }


def measure(bench: Curves, asked: list[Asked], file: Path) -> None:
    """Write what is missing into a file of JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    have = {(r["motion"], r["amount"], r["palette"], r["seed"]) for r in read(file)}
    for palette in PALETTES:
        for seed in SEEDS:
            left = [a for a in asked if (a.motion, a.amount, palette, seed) not in have]
            for first in range(0, len(left), 4):
                part = left[first : first + 4]
                texts = [background_prompt(palette)] * len(part)
                videos = bench.videos(Row("instant", {}), part, texts, seed)
                with file.open("a") as out:
                    for one, frames in zip(part, videos, strict=True):
                        told = vars(one) | {"palette": palette, "seed": seed}
                        out.write(json.dumps(told | {"measured": measured(frames)}) + "\n")


def found(results: list[dict[str, Any]], asked: Asked) -> list[float]:
    """What was measured of a motion, one number a video."""
    same = [r for r in results if (r["motion"], r["amount"]) == (asked.motion, asked.amount)]
    return [r["measured"][asked.motion] for r in same]


def table(results: list[dict[str, Any]], asked: list[Asked]) -> str:
    """Markdown: the mean over videos, and the least and the most."""
    lines = ["| motion | asked | measured | least to most |", "|---|---|---|---|"]
    for one in asked:
        if values := found(results, one):
            mean, ends = sum(values) / len(values), f"{min(values):.3g} to {max(values):.3g}"
            name = f"{one.motion}, {UNITS[one.motion]}"
            lines.append(f"| {name} | {one.amount:.3g} | {mean:.3g} | {ends} |")
    return "\n".join(lines) + "\n"


def write_picture(results: list[dict[str, Any]], asked: list[Asked], file: Path) -> None:
    """A curve for each motion, beside the line on which all would come out as asked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.3))
    for axis, (motion, amounts) in zip(axes, AMOUNTS.items(), strict=True):
        each = [found(results, one) for one in asked if one.motion == motion]
        axis.plot(amounts, amounts, color="#999999", linewidth=1)
        axis.plot(amounts, [sum(v) / len(v) for v in each], "o-", color="#3b6ea5")
        for amount, values in zip(amounts, each, strict=True):
            axis.plot([amount] * 2, [min(values), max(values)], color="#3b6ea5", linewidth=1)
        axis.set_xlabel(f"{motion} asked, {UNITS[motion]}")
        axis.set_ylabel("measured")
        if motion == "zoom":
            axis.set_xscale("log", base=2)
            axis.set_yscale("log", base=2)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    parser.add_argument("--out", default="runs/instant")
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = [Asked(motion, amount) for motion, each in AMOUNTS.items() for amount in each]
    file = Path(options.out) / f"{options.backbone}-curves.jsonl"
    measure(Curves(options.backbone, [], World()), asked, file)
    text = table(read(file), asked)
    file.with_suffix(".md").write_text(text)
    print(text)
    write_picture(read(file), asked, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
