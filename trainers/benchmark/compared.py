"""The content of a run's tables: rows, columns and pairs of methods, their labels and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trainers.benchmark.statistics import COSTS, Interval, Values, over_clips, paired, values_of

ALL = "all"
SHOWN = (
    "motion_fidelity",
    "motion_cosine",
    "prompt_fidelity",
    "prompt_accuracy",
    "temporal_consistency",
    "appearance_leakage",
)
"""Metrics of the first tables, where they were measured. The others have a table of their own."""
COST_LABELS: dict[str, tuple[str, Callable[[float], str]]] = {
    "seconds": ("Seconds", "{:.1f}".format),
    "peak_memory_bytes": ("Peak memory, MiB", lambda value: f"{value / 2**20:.0f}"),
    "forward_equivalents": ("Forwards", "{:.0f}".format),
    "entry_bytes": ("Entry, KiB", lambda value: f"{value / 2**10:.0f}"),
}
ARROWS = {"higher": " (+)", "lower": " (-)", "none": ""}


@dataclass(frozen=True)
class Compared:
    """A run, as run.json describes it, and the results that exist so far."""

    run: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]]

    @cached_property
    def names(self) -> list[str]:
        return [method["name"] for method in self.run["methods"]]

    @cached_property
    def metrics(self) -> dict[str, Mapping[str, Any]]:
        return {metric["name"]: metric for metric in self.run["metrics"]}

    @property
    def columns(self) -> list[str]:
        return [*self.metrics, *COSTS]

    @property
    def shown(self) -> list[str]:
        """Columns of the first tables; all columns where no metric is among SHOWN."""
        shown = [name for name in self.metrics if name in SHOWN]
        return [*shown, *COSTS] if shown else self.columns

    @property
    def groups(self) -> dict[str, list[str]]:
        """Kinds of prompts that have a table: all of them together, and each alone."""
        kinds = self.run["prompt_kinds"]
        return {ALL: kinds, **{kind: [kind] for kind in kinds}}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Methods and what they are compared with: each with the baseline, and each zero-shot
        method with the one that made its entries.
        """
        names, baseline = self.names, self.run["baseline"]
        own = [
            (row["name"], row["optimised"])
            for row in self.run["methods"]
            if row["zero_shot"] and row["optimised"] in names and row["optimised"] != baseline
        ]
        others = [name for name in names if name != baseline and baseline in names]
        return [(name, baseline) for name in others] + own

    @cached_property
    def values(self) -> dict[str, dict[str, Values]]:
        """The numbers by column, method, and (clip, kind of prompt)."""
        found = {column: values_of(self.results, column) for column in self.columns}
        return {
            column: {name: values.get(name, {}) for name in self.names}
            for column, values in found.items()
        }

    def mean(self, method: str, column: str, kinds: Sequence[str]) -> Interval | None:
        return over_clips(self.values[column][method], kinds)

    def difference(
        self, pair: tuple[str, str], column: str, kinds: Sequence[str]
    ) -> Interval | None:
        """The first method minus the second, on the clips and prompts that both have."""
        method, baseline = (self.values[column][name] for name in pair)
        return paired(method, baseline, kinds)

    def label(self, column: str) -> str:
        if column in COST_LABELS:
            return COST_LABELS[column][0]
        metric = self.metrics[column]
        return str(metric["label"]) + ARROWS[metric["better"]]

    def instrument(self, column: str) -> str:
        return str(self.metrics[column]["instrument"]) if column in self.metrics else ""
