"""`ditflow ablate`: one method with one setting changed at a time, as in Table 2 of DiTFlow
(Pondaven et al., CVPR 2025), and the curves of it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.benchmark import KINDS, BenchmarkData
from ditflow.files import atomic_file
from trainers.benchmark.folder import RunFolder
from trainers.benchmark.methods import Method, setup_file, setup_options
from trainers.benchmark.options import shared_options
from trainers.benchmark.run import Benchmark, MetricChoices
from trainers.benchmark.statistics import over_clips, values_of

SETTINGS = {
    "block": "block",
    "window": "guided fraction of the steps",
    "inner_steps": "updates at each guided step",
    "temperature": "temperature",
}
PANEL = (3.2, 2.4)  # inches


@dataclass(frozen=True)
class Variant:
    """The method at one value of one setting."""

    setting: str
    value: float
    method: Method


def ablate(
    out: str,
    data: BenchmarkData,
    setup: str,
    vary: dict[str, list[float]],
    model: dict[str, Any] = {},  # noqa: B006  shown by --help and never changed
    trainer: dict[str, Any] = {},  # noqa: B006
    metrics: MetricChoices = MetricChoices(),  # noqa: B008  frozen
    batch_size: int = 1,
    seed: int = 0,
    kinds: list[str] = ["subject"],  # noqa: B006
) -> int:
    """Make and measure one method's videos at several values of each setting, and draw the curves:
    ablation.png.

    Args:
        out: Folder of the ablation, which is that of a benchmark.
        data: Reference clips and their prompts.
        setup: The method: a shipped setup's name, or the path of a .yaml file.
        vary: Values of block, window (as a fraction), inner_steps or temperature; the others stay
            as the setup has them.
        model: Options of `ditflow fit` for all of them. dtype is by default what the device
            computes natively, bfloat16 or float32.
        trainer: Options of its Trainer.
        metrics: What is measured, and with which instruments.
        batch_size: Clips made together.
        seed: Of the noise that videos start from.
        kinds: Kinds of prompts, of caption, subject and scene.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(
            f"kinds names {', '.join(map(repr, unknown))}: kinds of prompts are {', '.join(KINDS)}."
        )
    variants = list(variants_of(setup, vary))
    methods = [variant.method for variant in variants]
    folder, options = RunFolder(out), shared_options(model, trainer)
    code = Benchmark(
        folder, data, methods, methods[0].name, options, trainer, metrics, batch_size, seed, kinds
    ).run(methods)
    draw(folder.path / "ablation.png", variants, list(folder.all_results()), metrics.names)
    return code


def variants_of(setup: str, vary: Mapping[str, Sequence[float]]) -> Iterator[Variant]:
    """Raises ValueError for a setting that is none of SETTINGS, and for one without values."""
    if unknown := vary.keys() - SETTINGS.keys():
        raise ValueError(
            f"vary names {', '.join(sorted(unknown))}: what can be varied is {', '.join(SETTINGS)}."
        )
    if not vary or not all(vary.values()):
        raise ValueError("vary needs values, such as {block: [1, 3, 5]}.")
    file = setup_file(setup)
    for setting, values in vary.items():
        for value in values:
            name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{file.stem}-{setting}-{value:g}")
            yield Variant(setting, value, Method(name, setup, file, _options(setting, value, file)))


def draw(
    path: Path,
    variants: Sequence[Variant],
    results: Sequence[Mapping[str, Any]],
    metrics: Sequence[str],
) -> None:
    """A row of panels for each metric that was measured, a column for each setting; bars are 95 %
    bootstrap intervals over clips.
    """
    from matplotlib.figure import Figure

    settings = list(dict.fromkeys(variant.setting for variant in variants))
    measured = {metric: values for metric in metrics if (values := values_of(results, metric))}
    if not measured:
        raise ValueError("there is nothing to draw: no video was made and measured.")
    figure = Figure(
        figsize=(PANEL[0] * len(settings), PANEL[1] * len(measured)), layout="constrained"
    )
    axes = figure.subplots(len(measured), len(settings), squeeze=False, sharey="row")
    for row, (metric, values) in zip(axes, measured.items(), strict=True):
        row[0].set_ylabel(metric.replace("_", " "))
        for panel, setting in zip(row, settings, strict=True):
            _curve(panel, [variant for variant in variants if variant.setting == setting], values)
    for panel, setting in zip(axes[-1], settings, strict=True):
        panel.set_xlabel(SETTINGS[setting])
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with atomic_file(path) as file:
        file.write(picture.getvalue())


def _curve(
    panel: Any, variants: Sequence[Variant], values: Mapping[str, Mapping[tuple[str, str], float]]
) -> None:
    kinds = {kind for of in values.values() for _, kind in of}
    points = [
        (variant.value, over_clips(values.get(variant.method.name, {}), kinds))
        for variant in variants
    ]
    found = sorted(
        (value, point.mean, point.mean - point.low, point.high - point.mean)
        for value, point in points
        if point is not None
    )
    if found:
        places, means, below, above = zip(*found, strict=True)
        panel.errorbar(places, means, yerr=(below, above), marker="o", capsize=3)
        panel.set_xticks(places)


def _options(setting: str, value: float, file: Path) -> dict[str, Any]:
    if setting == "temperature":
        return {
            "signal_arguments": {
                **(setup_options(file).get("signal_arguments") or {}),
                "temperature": value,
            }
        }
    if setting != "window" and value != int(value):
        raise ValueError(f"vary gives {setting} the value {value:g}: it is a whole number.")
    return {setting: value if setting == "window" else int(value)}
