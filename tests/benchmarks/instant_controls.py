"""What each control of a motion does: measured against asked, on held-out clips.

A video is followed back to its first frame as a clip is. Its field is compared with the one that
was asked for: the clip's, after the change. Motions are fields, or with --optimised entries of
positions that were optimised for another prompt. Results are kept as they come: a run that was
stopped goes on. --picture draws all that are in the folder.

python -m tests.benchmarks.instant_controls tiny-rope
python -m tests.benchmarks.instant_controls tiny-rope --optimised --clips 4
python -m tests.benchmarks.instant_controls tiny-rope --picture docs/figures/instant-controls.png
"""

# B batch, T frames, C channels, Y X pixel rows and columns

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.synthetic import SyntheticClip, World, obeys
from ditflow.bank import BankEntry
from ditflow.compatibility import Injection
from ditflow.core.sizes import VideoSize
from ditflow.fields.changes import OF_OFFSETS, changed, parsed
from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.operations import chained, mirrored, parted
from ditflow.fields.sources import DIS, field_of
from ditflow.sampling.recipe import Choices
from ditflow.transfer import inject_motion, transfer_motion
from ditflow.video import Clip
from tests.benchmarks.embedded_backbone import other_prompt
from tests.benchmarks.instant import Bench, Row, read
from trainers.benchmark.statistics import interval

STRENGTHS, WINDOWS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0), (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
SIZES = (VideoSize(25, 48, 80), VideoSize(25, 96, 64), VideoSize(17, 64, 64), VideoSize(33, 64, 64))
CHANGES = (
    *("reversed", "mirrored", "mirrored top-bottom", "rotated 90", "paced 2", "paced 0.5"),
    *("camera", "objects", "restricted 0 0 0.5 1", "restricted 0 0 0.5 1 moving", "smoothed"),
)
SEED, BATCH = 7, 8
Pair = Callable[[MotionField, MotionField], MotionField]


@dataclass(frozen=True)
class Control:
    """Settings of a motion, its change in words, its size, and how its mirror image joins it."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    change: str = ""
    size: VideoSize | None = None
    joined: Pair | None = None

    @property
    def of_entries(self) -> bool:
        """Whether positions that were optimised can have it."""
        offsets = all(change.name in OF_OFFSETS for change in parsed(self.change))
        return offsets and "moving" not in self.change and not self.joined and not self.of_windows

    @property
    def of_windows(self) -> bool:
        return "window" in self.settings

    def asked(self, motion: MotionField) -> MotionField:
        """The motion of a clip as this control wants it."""
        motion = changed(motion, self.change)
        return self.joined(motion, mirrored(motion)) if self.joined else motion


CONTROLS = [
    *(Control(f"strength {value:g}", {"strength": value}) for value in STRENGTHS),
    *(Control(f"size {size}", size=size) for size in SIZES),
    *(Control(f"window {value:g}", {"window": value}) for value in WINDOWS),
    *(Control(change, change=change) for change in CHANGES),
    Control("then its mirror image", joined=chained),
    Control("its mirror image at the right", joined=lambda a, b: parted(a, b, (0, 0, 0.5, 1))),
]


class Fields(Bench):
    """A backbone that is moved by the fields of clips, as a control wants them."""

    control = Control("")

    def field(self, clip: SyntheticClip, source: str) -> MotionField:
        return self.control.asked(super().field(clip, source))

    def controlled(
        self, control: Control, clips: list[SyntheticClip], texts: list[str]
    ) -> Iterator[Tensor]:
        """A video uint8 (T, C, Y, X) for each clip."""
        self.control, self.size = control, control.size or self.model.spec.size
        yield from self.videos(Row("", control.settings), clips, texts, SEED)


class Entries(Fields):
    """A backbone that is moved by positions, optimised once a clip while a prompt was followed."""

    def __init__(self, name: str, clips: list[SyntheticClip], world: World) -> None:
        super().__init__(name, clips, world)
        self.guidance = Choices(variable="rotary_positions").motion_guidance(self.model)
        self._entries: dict[str, BankEntry] = {}

    def controlled(
        self, control: Control, clips: list[SyntheticClip], texts: list[str]
    ) -> Iterator[Tensor]:
        self.control = control
        how = Injection(**control.settings, change=control.change or None)
        for clip, text in zip(clips, texts, strict=True):
            given: Any = dict(seed=SEED, how=how, size=control.size)
            yield inject_motion(self.model, self._entry(clip), text, **given)

    def _entry(self, clip: SyntheticClip) -> BankEntry:
        if clip.name not in self._entries:
            seen = Clip(clip.frames, 8.0, Path(clip.name), "")
            prompt = other_prompt(self.world, clip, 2)
            options: Any = dict(seed=SEED, motion_guidance=self.guidance)
            self._entries[clip.name] = transfer_motion(self.model, seen, prompt, **options).entry
        return self._entries[clip.name]


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


def measure(bench: Fields, controls: list[Control], file: Path) -> None:
    """Write what is missing into a file of JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    have = {(r["control"], r["clip"]) for r in read(file)}
    for control in controls:
        left = [clip for clip in bench.clips if (control.name, clip.name) not in have]
        for first in range(0, len(left), BATCH):
            part = left[first : first + BATCH]
            texts = [other_prompt(bench.world, clip, 1) for clip in part]
            videos = bench.controlled(control, part, texts)
            for clip, text, frames in zip(part, texts, videos, strict=True):
                told = {"control": control.name, "clip": clip.name, "kind": clip.motion}
                told |= compared(bench.field(clip, "dis"), frames)
                told["prompt"] = float(obeys(frames, text))
                with file.open("a") as out:
                    out.write(json.dumps(told) + "\n")
        print(control.name, flush=True)


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: means over clips, with their 95 % bootstrap intervals."""
    lines = ["| control | motion | speed | prompt | clips |", "|---|---|---|---|---|"]
    for control in CONTROLS:
        rows = [r for r in results if r["control"] == control.name]
        if not rows:
            continue
        motion, speed, prompt = ([r[key] for r in rows] for key in ("motion", "speed", "prompt"))
        found, fast, obeyed = map(interval, (motion, speed, prompt))
        ends = f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
        speeds = f"{fast.mean:.2f} [{fast.low:.2f}, {fast.high:.2f}]"
        lines.append(f"| {control.name} | {ends} | {speeds} | {obeyed.mean:.0%} | {len(rows)} |")
    return "\n".join(lines) + "\n"


def write_picture(folder: Path, file: Path) -> None:
    """Motion, speed and obedience against strength and window, with intervals: a row a backbone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = sorted(path.stem.removesuffix("-controls") for path in folder.glob("*-controls.jsonl"))
    backbones = [name for name in names if not name.endswith("-optimised")]
    curves = (
        ("", "strength", STRENGTHS, "field"),
        ("-optimised", "strength", STRENGTHS, "optimised positions"),
        ("", "window", WINDOWS, "field"),
    )
    shape: Any = dict(figsize=(10, 2.8 * len(backbones)), sharey=True, squeeze=False)
    figure, axes = pyplot.subplots(len(backbones), len(curves), **shape)
    for row, backbone in zip(axes, backbones, strict=True):
        for axis, (kind, name, values, told) in zip(row, curves, strict=True):
            _curves(axis, read(folder / f"{backbone}{kind}-controls.jsonl"), name, values)
            axis.set(xlabel=name, title=f"{backbone}, {told}", xlim=(-0.05, values[-1] + 0.05))
    axes[0, 0].legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def _curves(axis: Any, results: list[dict[str, Any]], name: str, values: tuple[float, ...]) -> None:
    axis.grid(alpha=0.3)
    for key, colour in (("motion", "#3b6ea5"), ("speed", "#c8553d"), ("prompt", "#7a9a4b")):
        rows = {
            value: [r[key] for r in results if r["control"] == f"{name} {value:g}"]
            for value in values
        }
        found = {value: interval(row) for value, row in rows.items() if row}
        if not found:
            continue
        axis.plot(list(found), [one.mean for one in found.values()], "o-", color=colour, label=key)
        ends = [one.low for one in found.values()], [one.high for one in found.values()]
        axis.fill_between(list(found), *ends, color=colour, alpha=0.15)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    parser.add_argument("--optimised", action="store_true")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--controls", nargs="*", help="those that begin so, in this order")
    parser.add_argument("--out", default="runs/instant")
    parser.add_argument("--picture", help="draw what is measured there, and measure nothing")
    options = parser.parse_args()
    if options.picture:
        return write_picture(Path(options.out), Path(options.picture))
    torch.set_num_threads(1)
    world = World()
    clips = [world.clip(seed) for seed in range(options.clips)]
    name = options.backbone + "-optimised" * options.optimised
    file = Path(options.out) / f"{name}-controls.jsonl"
    begins = {
        control.name: control
        for begin in options.controls or [""]
        for control in CONTROLS
        if control.name.startswith(begin) and (control.of_entries or not options.optimised)
    }
    wanted = list(begins.values())
    measure(
        (Entries if options.optimised else Fields)(options.backbone, clips, world), wanted, file
    )
    text = table(read(file))
    file.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
