"""Curves and charts: numbers as points of an SVG drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter

import numpy

POINTS = 96  # of a drawn curve; more would be invisible


@dataclass(frozen=True)
class Mark:
    """How something, such as a method, is drawn everywhere: the number of its colour, and whether
    lines are dashed and dots hollow.
    """

    colour: int
    dashed: bool = False


@dataclass(frozen=True)
class Curve:
    """Values at equal distances. Values that are not finite leave a gap."""

    label: str
    values: tuple[float, ...]
    mark: Mark | None = None

    @property
    def finite(self) -> list[float]:
        return [value for value in self.values if math.isfinite(value)]

    def thinned(self) -> Curve:
        """The curve with at most `POINTS` values, which are means of neighbours."""
        parts = (
            numpy.array_split(
                numpy.asarray(self.values, dtype=float), min(len(self.values), POINTS)
            )
            if self.values
            else []
        )
        return Curve(self.label, tuple(float(part.mean()) for part in parts), self.mark)

    def path(self, low: float, high: float, width: float, height: float) -> str:
        """An SVG path over the full width, with `low` at the bottom and `high` at the top."""
        span, last = (high - low) or 1.0, max(len(self.values) - 1, 1)
        words, pen = [], "M"
        for index, value in enumerate(self.values):
            if math.isfinite(value):
                words.append(
                    f"{pen}{width * index / last:.1f} {height * (1 - (value - low) / span):.1f}"
                )
            pen = "L" if math.isfinite(value) else "M"
        return "".join(words)


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes. The horizontal axis goes from 0 to 1 in the unit `across`."""

    caption: str
    across: str
    curves: tuple[Curve, ...]

    @property
    def ticks(self) -> list[float]:
        return _ticks([value for curve in self.curves for value in curve.finite])

    def ends(self, height: float, gap: float) -> list[tuple[Curve, float, float]]:
        """For each curve, from top to bottom at the right end: the curve, its end, and the place of
        its label. Labels are `gap` apart, or less where there is no room.
        """
        ticks = self.ticks
        found = [
            (curve, height * (ticks[-1] - curve.finite[-1]) / (ticks[-1] - ticks[0]))
            for curve in self.curves
            if curve.finite
        ]
        found.sort(key=itemgetter(1))
        labels = _apart([end for _, end in found], height, gap)
        return [(curve, end, label) for (curve, end), label in zip(found, labels, strict=True)]


def _apart(places: Sequence[float], height: float, gap: float) -> list[float]:
    """Ascending places in 0..height, moved down and then up until they are `gap` apart."""
    gap = min(gap, height / max(len(places) - 1, 1))
    down = list(accumulate(places, lambda above, place: max(place, above + gap)))
    up = list(
        accumulate(
            reversed(down), lambda below, place: min(place, below - gap), initial=height + gap
        )
    )
    return up[:0:-1]


def _ticks(values: Sequence[float], count: int = 4) -> list[float]:
    """Round numbers at equal distances, from below the smallest value to above the largest."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    rough = (high - low or abs(high) or 1.0) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(
        power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9)
    )
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]
