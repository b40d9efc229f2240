"""How well motion fields move new prompts, on held-out clips of the world: tables and a picture.

A row is one way to move a video. Its numbers are means over clips with their 95 % bootstrap
intervals, and the paired difference of motion to the first row. Results are kept as they come: a
run that was stopped goes on.

python -m tests.benchmarks.instant tiny-rope --table main --prompts 3 --seeds 2
"""

# B batch, T frames, P frame pairs, Y X pixel rows and columns, N video tokens

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.synthetic import SyntheticClip, World
from ditflow.extraction import source_of
from ditflow.fields.field import FieldSource, MotionField
from ditflow.fields.sources import field_of
from ditflow.metrics.clip import load_clip
from ditflow.models import load_backbone
from ditflow.models.presets import recommended
from ditflow.sampling.control import NOTHING, Control, Prompt
from ditflow.sampling.inject import Instant
from ditflow.sampling.loop import denoising_step
from ditflow.sampling.optimise import motion_control
from ditflow.sampling.placement import Placement
from ditflow.sampling.reference import reference_motion
from ditflow.sampling.state import start
from ditflow.transfer import recommended_guidance
from tests.benchmarks.embedded_backbone import other_prompt
from tests.benchmarks.instant_judged import judged
from tests.benchmarks.instant_table import table, write_picture
from tests.benchmarks.instant_variants import VARIANTS

BATCH = 8
DIRECT: dict[str, Any] = {"begin": "own", "noise_share": 0.0, "passes": "both", "inner_steps": 5}


@dataclass(frozen=True)
class Row:
    """One way to move a video.

    `instant` are changed settings of a field, None leaves it out; `optimise` are settings of direct
    optimisation. `scale` None is the recommended guidance scale, used in every `every`-th step; in
    the others there is one pass. `source` measures the field. `variant` changes its positions.
    """

    name: str
    instant: dict[str, Any] | None = None
    optimise: dict[str, Any] | None = None
    scale: float | None = None
    every: int = 1
    source: str = "dis"
    variant: str = ""


def tables(variable: str) -> dict[str, list[Row]]:
    """The rows of each table; `variable` are the positions that a backbone optimises."""
    plain, instant = Row("plain"), Row("instant", {})
    positions, latents = {"variable": variable}, {"variable": "latents"}
    field: dict[str, Any] = {"begin": "field", "passes": "conditional", "inner_steps": 1}
    field |= {"noise_share": 0.25}
    carried, alone = field | {"begin": "own"}, {"injection_blocks": ()}
    return {
        "main": [
            instant,
            plain,
            Row("instant, positions alone", {"noise_share": 0.0}),
            Row("instant, noise alone", {"window": 0.0}),
        ],
        "optimised": [
            Row(f"{variable}, 5 updates, both passes (published)", optimise=DIRECT | positions),
            Row(f"{variable} from the field, 1 update", optimise=field | positions),
            Row(
                f"{variable} from the field, 1 update, no injection",
                optimise=field | positions | alone,
            ),
            Row("latents, 5 updates (published)", optimise=DIRECT | latents),
            Row("latents from carried noise, 1 update", optimise=carried | latents),
            Row(
                "latents from carried noise, 1 update, no injection",
                optimise=carried | latents | alone,
            ),
            instant,
            plain,
        ],
        "law": [
            *(Row(f"scale {scale:g}", {}, scale=scale) for scale in (1.5, 1, 2, 3, 5, 7)),
            *(Row(f"scale {scale:g}, plain", scale=scale) for scale in (3, 7)),
            Row("scale 7, third pass", {"motion_scale": 2.5}, scale=7),
            Row("scale 7, both passes", {"passes": "both"}, scale=7),
            Row("one pass after the first step", {}, every=1000),
            Row("a second pass every 2nd step", {}, every=2),
            Row("a second pass every 4th step", {}, every=4),
        ],
        "ablation": [
            instant,
            Row("both passes", {"passes": "both"}),
            *(Row(f"strength {a:g}", {"strength": a}) for a in (0.75, 1.25, 1.5)),
            *(Row(f"window {w:g}", {"window": w}) for w in (0.4, 0.6, 1.0)),
            *(Row(f"noise share {s:g}", {"noise_share": s}) for s in (0.0, 0.1, 0.5, 1.0)),
            Row("exact flow", {}, source="exact"),
            Row("attention motion flow", {}, source="amf"),
            *(Row(name, {}, variant=name) for name in VARIANTS),
        ],
    }


class Bench:
    """A backbone with clips, and what is measured of their videos."""

    def __init__(self, name: str, clips: list[SyntheticClip], world: World) -> None:
        self.model, self.look = load_backbone(name, dtype="float32"), load_clip()
        self.world, self.clips, self.size = world, clips, self.model.spec.size
        self.advice = recommended(self.model.spec)
        self._fields: dict[tuple[str, str], MotionField] = {}

    def field(self, clip: SyntheticClip, source: str) -> MotionField:
        key = (clip.name, source)
        if key not in self._fields:
            self._fields[key] = self._measured(clip, source)
        return self._fields[key]

    def _measured(self, clip: SyntheticClip, source: str) -> MotionField:
        if source != "exact":
            return field_of(clip.frames, source_of(source, self.model), clip.name)
        frames = self.size.frames
        times = range(0, frames, 2)
        sides = torch.tensor([self.size.width, self.size.height])[:, None, None]
        moved = torch.stack([clip.flow(time, 0) for time in times]) / sides
        sure = torch.ones(len(moved), *moved.shape[-2:])
        aspect, told = self.size.width / self.size.height, FieldSource("exact", clip.name)
        return MotionField(moved, sure, tuple(map(float, times)), frames, aspect, told)

    @torch.no_grad()
    def videos(self, row: Row, clips: list[SyntheticClip], prompts: list[str], seed: int) -> Tensor:
        """uint8 (B, T, C, Y, X)."""
        model, scale = self.model, self.advice.guidance_scale if row.scale is None else row.scale
        schedule = model.schedule(self.advice.steps, scale)
        names = [f"{clip.name} new" for clip in clips]
        fields = [self.field(clip, row.source) for clip in clips]
        prompt = Prompt(model.embed(prompts), model.embed([""]).expand(len(clips), -1, -1))
        state, control = start(model, self.size, names, [seed] * len(clips)), NOTHING
        if row.instant is not None:
            control = self._instant(row, fields)
        if row.optimise is not None:
            guidance = replace(recommended_guidance(model), **row.optimise)
            rates = self.advice.learning_rate(guidance.variable, guidance.update)
            guidance = replace(guidance, learning_rate=rates)
            state = guidance.start(model, self.size, names, [seed] * len(clips), fields)
            seen = model.encode(torch.stack([clip.frames for clip in clips]))
            looks = guidance.signal, seen, model.embed([""]), names
            reference = reference_motion(model, *looks, noise=state.noise)
            control = motion_control(model, guidance, schedule, reference)
        for step in schedule:
            if step.index % row.every:
                step = replace(step, guidance_scale=1.0)
            state = denoising_step(model, step, prompt, state, control)
        return model.decode(state.latents)

    def _instant(self, row: Row, fields: list[MotionField]) -> Control:
        given = dict(row.instant or {})
        placed = {
            key: given.pop(key) for key in ("passes", "strength", "motion_scale") if key in given
        }
        advice = self.advice
        advised = {"window": advice.instant_window, "noise_share": advice.instant_noise_share}
        instant = Instant(**advised | given, placement=Placement(**placed))
        if row.variant:
            return VARIANTS[row.variant](instant, self.model, self.size, fields)
        return instant.control(self.model, self.size, fields)


def measure(bench: Bench, rows: Iterable[Row], file: Path, prompts: int, seeds: int) -> None:
    """Write what is missing of the rows into a file of JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    have = {(r["row"], r["clip"], r["number"], r["seed"]) for r in read(file)}
    jobs = [(row, n, s) for n in range(1, prompts + 1) for s in range(7, 7 + seeds) for row in rows]
    for row, number, seed in jobs:
        left = [c for c in bench.clips if (row.name, c.name, number, seed) not in have]
        for first in range(0, len(left), BATCH):
            part, began = left[first : first + BATCH], time.monotonic()
            texts = [other_prompt(bench.world, clip, number) for clip in part]
            videos = bench.videos(row, part, texts, seed)
            seconds = (time.monotonic() - began) / len(part)
            with file.open("a") as out:
                for clip, text, frames in zip(part, texts, videos, strict=True):
                    told = {"row": row.name, "clip": clip.name, "kind": clip.motion}
                    told |= {"number": number, "seed": seed, "text": text, "seconds": seconds}
                    out.write(json.dumps(told | judged(clip, text, frames, bench.look)) + "\n")
        print(f"{row.name}, prompt {number}, seed {seed}", flush=True)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    parser.add_argument("--table", default="main")
    parser.add_argument("--rows", nargs="*", help="only these of the table")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--motions", nargs="*", help="so many clips of each of these motions")
    parser.add_argument("--prompts", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", default="runs/instant")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world, seeds = World(), range(options.first, options.first + options.clips)
    clips = [world.clip(seed, motion) for motion in options.motions or [None] for seed in seeds]
    bench = Bench(options.backbone, clips, world)
    variable = "sinusoidal" if bench.model.spec.position == "sinusoidal" else "rotary_positions"
    rows = tables(variable)[options.table]
    if options.rows:
        rows = [row for row in rows if row.name in options.rows]
    file = Path(options.out) / f"{options.backbone}-{options.table}.jsonl"
    measure(bench, rows, file, options.prompts, options.seeds)
    kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in read(file):
        kept[result["row"]].append(result)
    text = table({row.name: kept[row.name] for row in rows})
    file.with_suffix(".md").write_text(text)
    print(text)
    write_picture({row.name: kept[row.name] for row in rows}, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
