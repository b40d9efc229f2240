"""`ditflow ablate`: one method with one setting changed at a time, and the metrics as curves, as in
Table 2 of DiTFlow (Pondaven et al., CVPR 2025).
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.benchmark import BenchmarkData
from ditflow.files import atomic_file
from trainers.benchmark.folder import RunFolder
from trainers.benchmark.methods import Method, setup_file, setup_options
from trainers.benchmark.options import MetricChoices, Settings, shared_options
from trainers.benchmark.run import Benchmark
from trainers.benchmark.statistics import over_clips, values_of
from trainers.extras import missing

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
    """Make and measure the videos of one method at several values of each setting, and draw the
    metrics as curves: ablation.png.

    Args:
        out: Folder of the ablation. It has the files of a benchmark.
        data: Reference clips and their prompts.
        setup: The method: the name of a shipped setup, or the path of a .yaml file.
        vary: Values of block, window (as a fraction), inner_steps or temperature. All other
            settings stay as the setup has them.
        model: Options of `ditflow fit` for all variants. By default dtype is what the device
            computes natively, bfloat16 or float32.
        trainer: Options of its Trainer.
        metrics: Metrics, and the instruments that measure them.
        batch_size: Clips made together.
        seed: Seed of the noise that videos start from.
        kinds: Kinds of prompts, of caption, subject and scene.
    """
    if unknown := [kind for kind in kinds if kind not in data.kinds]:
        raise ValueError(
            f"kinds names {', '.join(map(repr, unknown))}: "
            f"kinds of prompts are {', '.join(data.kinds)}."
        )
    variants = list(variants_of(setup, vary))
    methods = [variant.method for variant in variants]
    settings = Settings(shared_options(model, trainer), trainer, metrics, batch_size, seed)
    folder = RunFolder(out)
    code = Benchmark(folder, data, methods, methods[0].name, settings, kinds).run(methods)
    try:
        draw(folder.path / "ablation.png", variants, list(folder.all_results()), metrics.names)
    except ModuleNotFoundError as error:
        print(
            f"ablation.png is not drawn, but the tables are complete: {missing(error)}",
            file=sys.stderr,
        )
    return code


def variants_of(setup: str, vary: Mapping[str, Sequence[float]]) -> Iterator[Variant]:
    """The method at each value of each setting. Raises ValueError for a setting that is not in
    SETTINGS, and for one without values.
    """
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
    """Draw a row of panels for each measured metric and a column for each setting. Bars are 95 %
    bootstrap intervals over clips. Raises ValueError where nothing was measured.
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
        own = setup_options(file).get("signal_arguments") or {}
        return {"signal_arguments": {**own, "temperature": value}}
    if setting != "window" and value != int(value):
        raise ValueError(f"vary gives {setting} the value {value:g}: it is a whole number.")
    return {setting: value if setting == "window" else int(value)}
