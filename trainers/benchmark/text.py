"""The tables of a run to read: Markdown, and LaTeX for the package booktabs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from trainers.benchmark.compared import ALL, COST_LABELS, Compared
from trainers.benchmark.statistics import Interval

MARKS = (
    "Each number is a mean over clips with its 95 % bootstrap interval, followed by the number of "
    "clips where some are missing; (+) higher is better, (-) lower is better."
)
ZERO_SHOT_NOTE = (
    "Zero-shot methods have no videos of the prompts that their entries were optimised with. "
    "Compare them by kind of prompt, or by paired differences."
)


def markdown(compared: Compared) -> str:
    """A table of all prompts and one for each kind, then the other metrics and the differences."""
    lines = [f"{_made(compared)} {MARKS}", ""]
    if any(method["zero_shot"] for method in compared.run["methods"]):
        lines += [ZERO_SHOT_NOTE, ""]
    for kind, kinds in compared.groups.items():
        title = "All prompts" if kind == ALL else f"Prompts: {kind}"
        lines += _section(title, _means(compared, kinds, compared.shown))
    if others := [column for column in compared.columns if column not in compared.shown]:
        table = _means(compared, compared.groups[ALL], others)
        lines += _section("Other metrics, all prompts", table)
    lines += _section("Paired differences, all prompts", _differences(compared))
    return "\n".join(lines)


def latex(compared: Compared) -> str:
    """The table of all prompts and the paired differences."""
    means = _means(compared, compared.groups[ALL], compared.shown)
    return "\n".join(
        [f"% {_made(compared)}", *_tabular(*means), *_tabular(*_differences(compared))]
    )


def _made(compared: Compared) -> str:
    """What was compared, with which instruments and on which machine."""
    run, (frames, height, width) = compared.run, compared.run["size"]
    machines = [result["machine"] for result in compared.results if result["machine"]]
    return (
        f"ditflow {run['ditflow']} on {run['backbone']}, {len(run['clips'])} clips of "
        f"{frames} frames, {height} x {width} pixels; tracker {run['tracker']}, "
        f"CLIP {run['clip_model']}; {run['date'][:10]}. "
        f"Seconds and memory: {'; '.join(dict.fromkeys(machines)) or 'unknown'}."
    )


def _means(compared: Compared, kinds: Sequence[str], columns: Sequence[str]) -> Iterator[list[str]]:
    """The header, then a row for each method that has a number."""
    yield ["method", "Clips", *map(compared.label, columns)]
    for method in compared.run["methods"]:
        found = {column: compared.mean(method["name"], column, kinds) for column in columns}
        yield from _row([method["label"]], found)


def _differences(compared: Compared) -> Iterator[list[str]]:
    """The header, then a row for each pair of methods with a clip and prompt in common."""
    yield ["method", "minus", "Clips", *map(compared.label, compared.metrics)]
    kinds = compared.groups[ALL]
    for pair in compared.pairs:
        found = {column: compared.difference(pair, column, kinds) for column in compared.metrics}
        yield from _row(pair, found, "+")


def _row(
    names: Iterable[str], found: Mapping[str, Interval | None], sign: str = ""
) -> Iterator[list[str]]:
    clips = max((one.clips for one in found.values() if one is not None), default=0)
    if clips:
        cells = (_written(column, one, clips, sign) for column, one in found.items())
        yield [*names, str(clips), *cells]


def _written(column: str, found: Interval | None, clips: int, sign: str) -> str:
    """A mean with its interval, which a constant cost lacks, and its number of clips where that is
    not `clips`.
    """
    if found is None:
        return ""
    write = COST_LABELS[column][1] if column in COST_LABELS else f"{{:{sign}.3f}}".format
    mean, low, high = (write(number) for number in (found.mean, found.low, found.high))
    around = f" [{low}, {high}]" if low != high or column not in COST_LABELS else ""
    return f"{mean}{around}{f' ({found.clips})' if found.clips != clips else ''}"


def _section(title: str, rows: Iterable[list[str]]) -> list[str]:
    header, *others = rows
    table = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *others)]
    return [f"## {title}", "", *table, ""]


def _tabular(header: Sequence[str], *rows: Sequence[str]) -> list[str]:
    first, *lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (header, *rows)]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}"
    return [begin, r"\toprule", first, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", ""]


def _escaped(text: str) -> str:
    for character in "\\&%$#_{}":
        escape = rf"\{character}" if character != "\\" else r"\textbackslash "
        text = text.replace(character, escape)
    return text
