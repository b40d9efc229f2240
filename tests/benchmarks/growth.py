"""How time and memory grow with frames and with rows and columns, as a picture.

    python -m tests.benchmarks.growth --picture docs/figures/growth.png

Measured on tiny-rope: processor time of one thread, the fastest of several taken in turns, and the
most that torch allocates at a time. Counted for CogVideoX-5B, on the device "meta", where nothing
is computed: operations of an update and of a step, and the memory that `--dry_run` estimates,
beyond the weights. All are ratios to the smallest video, over tokens.
"""

# T pixel frames, Y X pixel rows and columns

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from ditflow.core.sizes import VideoSize
from ditflow.models import Model, load_backbone, sketch_backbone
from ditflow.sampling.recipe import Choices
from tests.benchmarks.flow_loss import largest
from tests.benchmarks.phases import Phases
from tests.benchmarks.roofline import phases
from tests.trainers.motion.dry_run.test_plan import published_folder
from trainers.motion.dry_run import costs

FRAMES = (25, 49, 81)
SMALL = (64, 64), (96, 96), (128, 128)
LARGE = (480, 720), (640, 960), (960, 1440)
SHOWN = ("update", "denoising", "decode")
REPEATS = 3
Curve = dict[str, list[float]]  # of each phase, by video
COLOURS = {"update": "#1f5fa8", "denoising": "#c2561a", "decode": "#3a7d44"}


@dataclass(frozen=True)
class Grown:
    """Videos of one model from small to large: tokens, seconds or operations, and bytes."""

    sizes: list[str]
    tokens: list[int]
    cost: Curve
    memory: Curve


def videos(sides: tuple[tuple[int, int], ...]) -> dict[str, list[VideoSize]]:
    """By what grows: frames at the first size, sides at the fewest frames."""
    return {
        "frames": [VideoSize(count, *sides[0]) for count in FRAMES],
        "rows and columns": [VideoSize(FRAMES[0], *side) for side in sides],
    }


def measured(model: Model, sizes: list[VideoSize]) -> tuple[Curve, Curve]:
    """Seconds and bytes."""
    found = [phases(model, size) for size in sizes]
    works = [
        {name: next(one[key] for key in one if key.startswith(name)) for name in SHOWN}
        for one in found
    ]
    memory = {name: [float(largest(one[name].work)) for one in works] for name in SHOWN}
    for _ in range(REPEATS):
        for one in works:
            for phase in one.values():
                phase.time()
    return {name: [one[name].seconds for one in works] for name in SHOWN}, memory


def counted(model: Model, sizes: list[VideoSize]) -> tuple[Curve, Curve]:
    """Operations and bytes."""
    guidance = Choices().on(model).guidance
    ours = [Phases(model, size, again=guidance.checkpointing) for size in sizes]
    operations = {
        "update": [one.update() for one in ours],
        "denoising": [one.step() for one in ours],
    }
    weights = costs.weights(model)
    memory = {
        name: [costs.memory(model, size, 1, how) - weights for size in sizes]
        for name, how in (("update", guidance), ("denoising", None))
    }
    return operations, memory


def table(title: str, one: Grown) -> None:
    """Ratios to the smallest video, and then its own numbers."""
    names = [*one.cost, *(f"{name}, memory" for name in one.memory)]
    curves = [*one.cost.values(), *one.memory.values()]
    print(f"| {title} | tokens | {' | '.join(names)} |")
    print("|---" * (2 + len(names)) + "|")
    for index, (size, tokens) in enumerate(zip(one.sizes, one.tokens, strict=True)):
        told = [f"{curve[index] / curve[0]:.2f}" for curve in curves]
        print(f"| {size} | {tokens} | {' | '.join(told)} |")
    print(f"| {one.sizes[0]} | | {' | '.join(f'{curve[0]:.4g}' for curve in curves)} |", flush=True)


def drawn(panel: plt.Axes, title: str, curves: dict[str, tuple[list[int], Curve]]) -> None:
    """Ratios over tokens; solid where frames grow, dashed where rows and columns do."""
    widest = max(tokens[-1] / tokens[0] for tokens, _ in curves.values())
    for power, word in ((1, "as tokens"), (2, "as their\nsquare")):
        panel.plot([1, widest], [1, widest**power], color="#aaaaaa", linewidth=0.9, zorder=0)
        place, below = (widest * 1.07, widest**power), "top" if power == 1 else "center"
        panel.annotate(word, place, va=below, fontsize=8, color="#666666")
    for way, (tokens, values) in curves.items():
        for name, value in values.items():
            x, y = ([each / curve[0] for each in curve] for curve in (tokens, value))
            style = {"linestyle": "-" if way == "frames" else "--", "color": COLOURS[name]}
            panel.plot(x, y, marker="o", markersize=4.5, label=f"{name}, {way}", **style)
    for axis in ("x", "y"):
        panel.set(**{f"{axis}scale": "log"})
        ticks = [2**power for power in range(5)]
        panel.set(**{f"{axis}ticks": ticks, f"{axis}ticklabels": ticks})
    panel.minorticks_off()
    panel.set_xlim(0.93, widest * 1.45)
    panel.set_ylim(top=widest**2 * 1.5)
    panel.set_title(title, fontsize=10.5, loc="left")
    panel.grid(color="#dddddd", linewidth=0.6)


def draw(found: list[dict[str, Grown]], picture: Path) -> None:
    figure, panels = plt.subplots(2, 2, figsize=(9.5, 8.2), dpi=110)
    models = ("tiny-rope", "measured", "processor time"), ("CogVideoX-5B", "counted", "operations")
    for row, grown, (name, how, cost) in zip(panels, found, models, strict=True):
        costs_of = {way: (one.tokens, one.cost) for way, one in grown.items()}
        memory = {way: (one.tokens, one.memory) for way, one in grown.items()}
        drawn(row[0], f"{name}: {cost}, {how}", costs_of)
        kept = "estimated" if how == "counted" else how
        drawn(row[1], f"{name}: memory beyond weights, {kept}", memory)
    for panel in panels[:, 0]:
        panel.set_ylabel("against the smallest video", fontsize=9)
    for panel in panels[1]:
        panel.set_xlabel("tokens, against the smallest video", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    options = {"ncols": 3, "fontsize": 9, "frameon": False, "handlelength": 3.2}
    figure.legend(handles, labels, loc="lower center", **options)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(picture, metadata={"Software": None})


def measure() -> list[dict[str, Grown]]:
    with tempfile.TemporaryDirectory() as folder:
        config = published_folder(Path(folder), "CogVideoX-5b")
        large = sketch_backbone(str(config), dtype="bfloat16")
    small = load_backbone("tiny-rope", device="cpu")
    found = []
    for model, sides, how in ((small, SMALL, measured), (large, LARGE, counted)):
        grown = {}
        for way, sizes in videos(sides).items():
            tokens = [model.spec.compression.grid(size).tokens for size in sizes]
            grown[way] = Grown([str(size) for size in sizes], tokens, *how(model, sizes))
            table(f"{how.__name__}, {way}", grown[way])
        found.append(grown)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--numbers", type=Path, help="a JSON file: drawn from, or else written")
    options = parser.parse_args()
    if options.numbers is not None and options.numbers.exists():
        kept = json.loads(options.numbers.read_text())
        found = [{way: Grown(**one) for way, one in grown.items()} for grown in kept]
    else:
        found = measure()
        if options.numbers is not None:
            told = [{way: asdict(one) for way, one in grown.items()} for grown in found]
            options.numbers.write_text(json.dumps(told))
    draw(found, options.picture)


if __name__ == "__main__":
    main()
