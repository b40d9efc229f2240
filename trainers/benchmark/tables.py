"""The tables of a run, from the results that exist so far: rows.csv, table.csv, paired.csv,
table.md and table.tex.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple
from typing import Any

from ditflow.files import atomic_file, write_csv
from trainers.benchmark.compared import Compared
from trainers.benchmark.folder import RunFolder
from trainers.benchmark.statistics import COSTS
from trainers.benchmark.text import latex, markdown

Row = tuple[Any, ...]

FIRST = ("method", "clip", "kind", "prompt", "seed", "zero_shot_from")
NUMBERS = ("low", "high", "clips", "instrument")


def write_tables(folder: RunFolder, run: Mapping[str, Any]) -> None:
    """Write all tables of the run that run.json describes."""
    compared = Compared(run, list(folder.all_results()))
    rows = list(flat(compared))
    write_csv(folder.path / "rows.csv", rows[0], rows[1:])
    means = ("method", "kind", "column", "mean", *NUMBERS)
    write_csv(folder.path / "table.csv", means, list(summary(compared)))
    pairs = ("method", "baseline", "kind", "column", "difference", *NUMBERS)
    write_csv(folder.path / "paired.csv", pairs, list(differences(compared)))
    for name, text in (("table.md", markdown(compared)), ("table.tex", latex(compared))):
        with atomic_file(folder.path / name) as file:
            file.write(text.encode())


def flat(compared: Compared) -> Iterator[Row]:
    """The header of rows.csv, then a row for each video."""
    results, metrics = compared.results, compared.metrics
    details = list(
        dict.fromkeys(
            (name, key)
            for result in results
            for name, of in result["details"].items()
            for key in of
        )
    )
    explained = (
        *(f"{name}:{key}" for name, key in details),
        *(f"{name}:instrument" for name in metrics),
    )
    yield (*FIRST, *metrics, *COSTS, "machine", *explained, "error")
    for result in results:
        yield (
            *(result[key] for key in FIRST),
            *(result["metrics"].get(name) for name in metrics),
            *(result[cost] for cost in COSTS),
            result["machine"],
            *(result["details"].get(name, {}).get(key) for name, key in details),
            *(result["instruments"].get(name) for name in metrics),
            result["error"],
        )


def summary(compared: Compared) -> Iterator[Row]:
    """A row for each column, method and kind of prompt."""
    for column in compared.columns:
        for method in compared.names:
            for kind, kinds in compared.groups.items():
                if (found := compared.mean(method, column, kinds)) is not None:
                    yield (method, kind, column, *astuple(found), compared.instrument(column))


def differences(compared: Compared) -> Iterator[Row]:
    """A row for each column, pair of methods and kind of prompt."""
    for column in compared.columns:
        for pair in compared.pairs:
            for kind, kinds in compared.groups.items():
                if (found := compared.difference(pair, column, kinds)) is not None:
                    yield (*pair, kind, column, *astuple(found), compared.instrument(column))
