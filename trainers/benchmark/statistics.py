"""Means over clips with 95 % bootstrap intervals, and differences of methods on the same clips and
prompts.

Videos of one clip are not independent samples. So the prompts of a clip are averaged first, and the
bootstrap draws clips.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.benchmark import KINDS

REPEATS = 10_000
CAPTION = KINDS[0]
OF_NEW_PROMPTS = ("appearance_leakage",)
"""Metrics without a meaning for captions: a caption describes the reference, so that the video
should look like it."""
COSTS = ("seconds", "peak_memory_bytes", "forward_equivalents", "entry_bytes")
Values = Mapping[tuple[str, str], float]
"""A method's numbers by (clip, kind of prompt)."""


@dataclass(frozen=True)
class Interval:
    """A mean, the ends of its 95 % bootstrap interval, and the number of clips behind it."""

    mean: float
    low: float
    high: float
    clips: int


def interval(values: Sequence[float], repeats: int = REPEATS) -> Interval:
    """The interval of values, one for each clip. Raises ValueError without a value."""
    if not len(values):
        raise ValueError("an interval needs at least one value.")
    numbers = np.asarray(values, dtype=np.float64)
    means = numbers[
        np.random.default_rng(0).integers(len(numbers), size=(repeats, len(numbers)))
    ].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(numbers.mean()), float(low), float(high), len(numbers))


def values_of(
    results: Iterable[Mapping[str, Any]], column: str
) -> dict[str, dict[tuple[str, str], float]]:
    """The numbers of a metric or a cost by method. Unknown numbers are left out, and those without
    a meaning for their prompt.
    """
    found: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for result in results:
        value = result.get(column) if column in COSTS else result["metrics"].get(column)
        if (
            value is not None
            and math.isfinite(value)
            and not (column in OF_NEW_PROMPTS and result["kind"] == CAPTION)
        ):
            found[result["method"]][result["clip"], result["kind"]] = value
    return found


def over_clips(values: Values, kinds: Iterable[str]) -> Interval | None:
    """The mean over prompts of these kinds, or None without a number."""
    means = _clip_means({place: value for place, value in values.items() if place[1] in set(kinds)})
    return interval(means) if means else None


def paired(values: Values, baseline: Values, kinds: Iterable[str]) -> Interval | None:
    """Method minus baseline, on the clips and prompts that both have."""
    return over_clips(
        {place: values[place] - baseline[place] for place in values.keys() & baseline.keys()}, kinds
    )


def _clip_means(values: Values) -> list[float]:
    by_clip: dict[str, list[float]] = defaultdict(list)
    for (clip, _), value in sorted(values.items()):
        by_clip[clip].append(value)
    return [sum(of) / len(of) for of in by_clip.values()]
