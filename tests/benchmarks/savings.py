"""What savings cost in motion and in obedience to the prompt, on held-out clips of the world.

A row is a way to optimise, or to go without. Its numbers are means over clips with their 95 %
bootstrap intervals, and the paired difference of motion to the exact method. Passes are those that
each clip needed, counted, over those of a plain video. Results are kept as they come: a run that
was stopped goes on.

    python -m tests.benchmarks.savings tiny-rope --clips 8 --prompts 2
"""

# B batch, T frames, C channels, Y X pixel rows and columns

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.synthetic import SyntheticClip, World, obeys
from ditflow import inject_motion, transfer_motion
from ditflow.core.sizes import VideoSize
from ditflow.metrics import motion_cosine
from ditflow.models import sketch_backbone
from ditflow.sampling import optimise
from ditflow.sampling.savings import Savings, Updates
from ditflow.transfer import recommended_guidance
from ditflow.video import Clip
from tests.benchmarks.embedded_backbone import other_prompt
from tests.benchmarks.instant import BATCH, Bench, Row, read
from tests.benchmarks.instant_table import by_clip
from trainers.benchmark.statistics import interval
from trainers.motion.dry_run.costs import operations

EXACT = "exact, 1 update"
FIVE = {"inner_steps": 5}
SAID = (  # the best come first, so that a run that is stopped has them
    "reuse 3",
    "reuse 2",
    "reuse 4 .9",
    "reuse 4",
    "pairs neighbours",
    "pairs anchors",
    "window 2",
    "scores bfloat16",
    "reuse 5",
)
ROWS = [
    Row(EXACT, optimise={}),
    *(Row(said, optimise={"savings": Savings.parsed(said)}) for said in SAID[:4]),
    Row("plain"),
    Row("instant", {}),
    *(Row(said, optimise={"savings": Savings.parsed(said)}) for said in SAID[4:]),
    Row("5 updates, reuse 5", optimise=FIVE | {"savings": Savings(reuse=5)}),
    Row("5 updates, stop .05", optimise=FIVE | {"savings": Savings(stop=0.05)}),
    Row("5 updates", optimise=FIVE),
    Row("an entry, injected", {}, variant="entry"),
    Row("an entry of half the size, injected", {}, variant="half"),
]


class Counted(Updates):
    """Counts the passes to the block of the signal that each clip needs, backward ones as two."""

    passes: Tensor | None = None

    def stop(self, loss: Tensor) -> bool:
        self._count(loss, 1.0)
        return super().stop(loss)

    def keep(self, loss: Tensor, gradient: Tensor) -> None:
        self._count(loss, 2.0)
        super().keep(loss, gradient)

    def _count(self, loss: Tensor, passes: float) -> None:
        due = torch.ones_like(loss) if self.kept is None else self._due(self.kept).float()
        before = torch.zeros_like(loss) if Counted.passes is None else Counted.passes
        Counted.passes = before + passes * due


def made(bench: Bench, row: Row, part: list[SyntheticClip], texts: list[str]) -> Iterable[Any]:
    """Of each clip the video, and its passes through the whole transformer."""
    model = bench.model
    guidance = replace(recommended_guidance(model), **(row.optimise or {}))
    schedule = model.schedule(bench.advice.steps, bench.advice.guidance_scale)
    plain = model.spec.passes_of(schedule)
    look = guidance.forward_equivalents(schedule, model.spec) - plain
    depth = look / (1 + 3 * guidance.savings.gradients(20 * guidance.inner_steps))
    if row.variant:
        size = bench.size
        if row.variant == "half":
            size = VideoSize(size.frames, size.height // 2, size.width // 2)
        sketch = sketch_backbone(model.spec.name)
        share = operations(sketch, size) / operations(sketch, bench.size)
        cost = plain + share * (look + plain * bench.advice.window)
        return [(injected(bench, c, text, size), cost) for c, text in zip(part, texts, strict=True)]
    Counted.passes = None
    videos = bench.videos(row, part, texts, 7)
    passes = [0.0] * len(part)
    if row.optimise is not None:
        passes = [depth * (1 + float(seen)) for seen in Counted.passes]
    return [(video, plain + seen) for video, seen in zip(videos, passes, strict=True)]


def injected(bench: Bench, clip: SyntheticClip, text: str, size: VideoSize) -> Tensor:
    """Optimised at a size, and injected at that of the backbone."""
    frames = clip.frames.float()
    frames = functional.interpolate(frames, (size.height, size.width), mode="area").round()
    seen = Clip(frames.to(torch.uint8), 8.0, Path(clip.name), "0" * 64)
    entry = transfer_motion(bench.model, seen, text, seed=7).entry
    return inject_motion(bench.model, entry, text, seed=7, size=bench.size)


def measure(bench: Bench, rows: Iterable[Row], file: Path, prompts: int) -> None:
    """Write what is missing of the rows into a file of JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    have = {(r["row"], r["clip"], r["number"]) for r in read(file)}
    for number, row in [(n, row) for n in range(1, prompts + 1) for row in rows]:
        left = [c for c in bench.clips if (row.name, c.name, number) not in have]
        for first in range(0, len(left), BATCH):
            part, began = left[first : first + BATCH], time.process_time()
            texts = [other_prompt(bench.world, clip, number) for clip in part]
            videos = made(bench, row, part, texts)
            seconds = (time.process_time() - began) / len(part)
            with file.open("a") as out:
                for clip, text, (frames, passes) in zip(part, texts, videos, strict=True):
                    told = {"row": row.name, "clip": clip.name, "number": number, "passes": passes}
                    told |= {"motion": motion_cosine(clip.flows(), frames), "seconds": seconds}
                    told |= {"prompt": float(obeys(frames, text))}
                    out.write(json.dumps(told) + "\n")
        print(f"{row.name}, prompt {number}", flush=True)


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown, with what has been measured of each row."""
    plain = by_clip(rows["plain"], "passes")
    lines = [
        "| | motion | difference | prompt | difference | passes | seconds |",
        "|---" * 7 + "|",
    ]
    for name, results in rows.items():
        cells = []
        for column in ("motion", "prompt"):
            mine = by_clip(results, column)
            theirs = {(r["clip"], r["number"]): r[column] for r in rows[EXACT]}
            gaps = [
                {"clip": r["clip"], "gap": r[column] - theirs[r["clip"], r["number"]]}
                for r in results
            ]
            for values, form in ((mine, "{:.2f}"), (by_clip(gaps, "gap"), "{:+.3f}")):
                inside = interval(list(values.values()))
                cells.append(
                    f"{form} [{form}, {form}]".format(inside.mean, inside.low, inside.high)
                )
        passes = by_clip(results, "passes")
        inside = interval([passes[clip] / plain[clip] for clip in passes])
        cells.append(f"{inside.mean:.2f} [{inside.low:.2f}, {inside.high:.2f}]")
        cells.append(f"{interval(list(by_clip(results, 'seconds').values())).mean:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--rows", nargs="*", help="only these of the table")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--only_table", action="store_true", help="of what has been measured")
    parser.add_argument("--out", default="runs/savings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world, seeds = World(), range(options.first, options.first + options.clips)
    rows = [row for row in ROWS if not options.rows or row.name in options.rows]
    file = Path(options.out) / f"{options.backbone}.jsonl"
    if not options.only_table:
        optimise.Updates = Counted
        bench = Bench(options.backbone, [world.clip(seed) for seed in seeds], world)
        measure(bench, rows, file, options.prompts)
    kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in read(file):
        kept[result["row"]].append(result)
    text = table({row.name: kept[row.name] for row in ROWS if kept[row.name]})
    file.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
