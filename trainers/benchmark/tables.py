"""The tables of a run, made from whatever results are there: rows.csv, table.csv, table.md,
table.tex, paired.csv.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ditflow.files import atomic_file, write_csv
from trainers.benchmark.folder import RunFolder
from trainers.benchmark.statistics import COSTS, Interval, over_clips, paired, values_of

Results = Sequence[Mapping[str, Any]]
Row = tuple[Any, ...]

ALL = "all"
SHOWN = (
    "motion_fidelity",
    "motion_cosine",
    "prompt_fidelity",
    "temporal_consistency",
    "appearance_leakage",
)
"""Metrics of the first tables, where they were measured; the others follow in a table of their own."""
COST_LABELS: dict[str, tuple[str, Callable[[float], str]]] = {
    "seconds": ("Seconds", "{:.1f}".format),
    "peak_memory_bytes": ("Peak memory, MiB", lambda value: f"{value / 2**20:.0f}"),
    "forward_equivalents": ("Forwards", "{:.0f}".format),
    "entry_bytes": ("Entry, KiB", lambda value: f"{value / 2**10:.0f}"),
}
ZERO_SHOT_NOTE = "Zero-shot methods have no videos of the prompts that their entries were optimised with: compare by kind of prompt, or by paired differences."
FIRST = ("method", "clip", "kind", "prompt", "seed", "zero_shot_from")
ARROWS = {"higher": " (+)", "lower": " (-)", "none": ""}


def write_tables(folder: RunFolder, run: Mapping[str, Any]) -> None:
    """From the results that are there by now."""
    results = list(folder.all_results())
    metrics = [metric["name"] for metric in run["metrics"]]
    details = list(
        dict.fromkeys(
            (name, key)
            for result in results
            for name, of in result["details"].items()
            for key in of
        )
    )
    columns = (
        *FIRST,
        *metrics,
        *COSTS,
        "machine",
        *(f"{name}:{key}" for name, key in details),
        *(f"{name}:instrument" for name in metrics),
        "error",
    )
    write_csv(folder.path / "rows.csv", columns, list(_flat(results, metrics, details)))
    write_csv(
        folder.path / "table.csv",
        ("method", "kind", "column", "mean", "low", "high", "clips", "instrument"),
        list(summary(run, results)),
    )
    header = (
        "method",
        "baseline",
        "kind",
        "column",
        "difference",
        "low",
        "high",
        "clips",
        "instrument",
    )
    write_csv(folder.path / "paired.csv", header, list(differences(run, results)))
    for name, text in (("table.md", markdown(run, results)), ("table.tex", latex(run, results))):
        with atomic_file(folder.path / name) as file:
            file.write(text.encode())


def summary(run: Mapping[str, Any], results: Results) -> Iterator[Row]:
    """A row for each method, kind of prompt and column."""
    for column in _columns(run):
        values = values_of(results, column)
        for method in _names(run):
            for kind, kinds in _groups(run):
                if (found := over_clips(values[method], kinds)) is not None:
                    yield (
                        method,
                        kind,
                        column,
                        found.mean,
                        found.low,
                        found.high,
                        found.clips,
                        _instrument(run, column),
                    )


def differences(run: Mapping[str, Any], results: Results) -> Iterator[Row]:
    """Each method minus the baseline, and each zero-shot method minus the one that made its
    entries, on the same clips and prompts.
    """
    for column in _columns(run):
        values = values_of(results, column)
        for method, baseline in _pairs(run):
            for kind, kinds in _groups(run):
                if (found := paired(values[method], values[baseline], kinds)) is not None:
                    yield (
                        method,
                        baseline,
                        kind,
                        column,
                        found.mean,
                        found.low,
                        found.high,
                        found.clips,
                        _instrument(run, column),
                    )


def markdown(run: Mapping[str, Any], results: Results) -> str:
    """A table for all prompts and one for each kind, then the metrics that these leave out, and the
    paired differences.
    """
    marks = "Mean and 95 % bootstrap interval over clips, a number of them behind it where they are fewer; (+) more is better, (-) less is."
    lines = [f"{_made(run, results)} {marks}", ""]
    if any(method["zero_shot"] for method in run["methods"]):
        lines += [ZERO_SHOT_NOTE, ""]
    for kind, kinds in _groups(run):
        title = "All prompts" if kind == ALL else f"Prompts: {kind}"
        lines += [
            f"## {title}",
            "",
            *_markdown_rows(_header(run, _shown(run)), _cells(run, results, kinds, _shown(run))),
            "",
        ]
    if others := [column for column in _columns(run) if column not in _shown(run)]:
        lines += [
            "## Other metrics, all prompts",
            "",
            *_markdown_rows(
                _header(run, others), _cells(run, results, run["prompt_kinds"], others)
            ),
            "",
        ]
    return "\n".join(
        [
            *lines,
            "## Paired differences, all prompts",
            "",
            *_markdown_rows(_paired_header(run), _paired_cells(run, results)),
            "",
        ]
    )


def latex(run: Mapping[str, Any], results: Results) -> str:
    """The table of all prompts and the paired differences, for the package booktabs."""
    rows = _cells(run, results, run["prompt_kinds"], _shown(run))
    return "\n".join(
        [
            f"% {_made(run, results)}",
            *_tabular(_header(run, _shown(run)), rows),
            *_tabular(_paired_header(run), _paired_cells(run, results)),
        ]
    )


def _tabular(header: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (header, *rows)]
    begin, end = (
        [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule"],
        [r"\bottomrule", r"\end{tabular}", ""],
    )
    return [*begin, lines[0], r"\midrule", *lines[1:], *end]


def _made(run: Mapping[str, Any], results: Results) -> str:
    """What was compared, with which instruments and on which machine."""
    made = f"ditflow {run['ditflow']} on {run['backbone']}, {len(run['clips'])} clips of {run['size'][0]} frames, {run['size'][1]} x {run['size'][2]} pixels"
    machines = dict.fromkeys(result["machine"] for result in results if result["machine"])
    return f"{made}; tracker {run['tracker']}, CLIP {run['clip_model']}; {run['date'][:10]}. Seconds and memory: {'; '.join(machines) or 'unknown'}."


def _cells(
    run: Mapping[str, Any], results: Results, kinds: Sequence[str], columns: Sequence[str]
) -> Iterator[list[str]]:
    values = {column: values_of(results, column) for column in columns}
    for method in run["methods"]:
        found = {column: over_clips(values[column][method["name"]], kinds) for column in values}
        if clips := max(
            (interval.clips for interval in found.values() if interval is not None), default=0
        ):
            yield [
                method["label"],
                str(clips),
                *(_written(column, found[column], clips) for column in values),
            ]


def _paired_header(run: Mapping[str, Any]) -> list[str]:
    return ["method", "minus", "Clips", *(_label(run, metric["name"]) for metric in run["metrics"])]


def _paired_cells(run: Mapping[str, Any], results: Results) -> Iterator[list[str]]:
    values = {metric["name"]: values_of(results, metric["name"]) for metric in run["metrics"]}
    for method, baseline in _pairs(run):
        found = {
            column: paired(of[method], of[baseline], run["prompt_kinds"])
            for column, of in values.items()
        }
        if clips := max(
            (difference.clips for difference in found.values() if difference is not None), default=0
        ):
            yield [
                method,
                baseline,
                str(clips),
                *(_written(column, difference, clips, "+") for column, difference in found.items()),
            ]


def _written(column: str, found: Interval | None, clips: int, sign: str = "") -> str:
    """A mean with its interval (a cost that is always the same has none), and the number of clips
    where it is not all of `clips`.
    """
    if found is None:
        return ""
    write = COST_LABELS[column][1] if column in COST_LABELS else f"{{:{sign}.3f}}".format
    mean, low, high = (write(number) for number in (found.mean, found.low, found.high))
    around = f" [{low}, {high}]" if low != high or column not in COST_LABELS else ""
    return f"{mean}{around}{f' ({found.clips})' if found.clips != clips else ''}"


def _flat(
    results: Results, metrics: Sequence[str], details: Sequence[tuple[str, str]]
) -> Iterator[Row]:
    for result in results:
        numbers = (
            *(result["metrics"].get(name) for name in metrics),
            *(result[cost] for cost in COSTS),
            result["machine"],
        )
        how = (
            *(result["details"].get(name, {}).get(key) for name, key in details),
            *(result["instruments"].get(name) for name in metrics),
        )
        yield (*(result[key] for key in FIRST), *numbers, *how, result["error"])


def _pairs(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    names, baseline = _names(run), run["baseline"]
    own = [
        (row["name"], row["optimised"])
        for row in run["methods"]
        if row["zero_shot"] and row["optimised"] in names
    ]
    return [(name, baseline) for name in names if name != baseline and baseline in names] + [
        pair for pair in own if pair[1] != baseline
    ]


def _groups(run: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    return [(ALL, run["prompt_kinds"]), *((kind, [kind]) for kind in run["prompt_kinds"])]


def _names(run: Mapping[str, Any]) -> list[str]:
    return [method["name"] for method in run["methods"]]


def _columns(run: Mapping[str, Any]) -> list[str]:
    return [*(metric["name"] for metric in run["metrics"]), *COSTS]


def _shown(run: Mapping[str, Any]) -> list[str]:
    """Columns of the first tables; all there are, if none of SHOWN is among them."""
    shown = [column for column in _columns(run) if column in SHOWN]
    return [*shown, *COSTS] if shown else _columns(run)


def _header(run: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return ["method", "Clips", *(_label(run, column) for column in columns)]


def _instrument(run: Mapping[str, Any], column: str) -> str:
    return next((metric["instrument"] for metric in run["metrics"] if metric["name"] == column), "")


def _label(run: Mapping[str, Any], column: str) -> str:
    if column in COST_LABELS:
        return COST_LABELS[column][0]
    return next(
        metric["label"] + ARROWS[metric["better"]]
        for metric in run["metrics"]
        if metric["name"] == column
    )


def _markdown_rows(header: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _escaped(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(
            character, f"\\{character}" if character != "\\" else r"\textbackslash "
        )
    return text
