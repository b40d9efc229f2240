"""The numbers of a run as tables of means, differences and all videos, and as a chart of losses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy

from ditflow.visual import Cell, Chart, Curve, Mark, Table
from trainers.benchmark.statistics import CAPTION, OF_NEW_PROMPTS, Interval, over_clips, paired
from trainers.report.run import COSTS, Measure, Result, Run

CONFIDENCE = "with their 95 % bootstrap intervals and the number n of videos behind each"
OF_NEW_PROMPTS_NOTE = (
    " for new prompts, which alone count in the mean. "
    "A caption describes the reference, so that its video should look like it: none is marked best"
)
LOSSES = "Loss during the optimisation of motion, as a share of the first: median over videos"
RESOLUTION = 64  # points of a mean loss curve

Values = Mapping[tuple[str, str], float]
"""The numbers of one method by (clip, kind of prompt)."""


def tables(run: Run, results: Sequence[Result], marks: Mapping[str, Mark]) -> Iterator[Table]:
    """Means over clips with a row for each method, and the differences to the baseline."""
    values = {
        measure: {name: _values(results, name, measure) for name in run.methods}
        for measure in present(run, results)
    }
    caption = f"Means over clips {CONFIDENCE}; the best of a column is bold"
    columns = {measure: _means(run, measure, of) for measure, of in values.items()}
    yield _table(run, caption, columns, marks)
    others = [name for name in run.methods if name != run.baseline]
    measured = {measure: of for measure, of in values.items() if measure in run.measures}
    if run.baseline in run.methods and others and measured:
        caption = (
            f"Difference to {run.methods[run.baseline]} on the same clips and prompts "
            f"{CONFIDENCE}; bold where the interval excludes 0"
        )
        columns = {measure: _differences(run, measure, of) for measure, of in measured.items()}
        yield _table(run, caption, columns, marks)


def every_number(run: Run, results: Sequence[Result], marks: Mapping[str, Mark]) -> Table:
    """A row for each video, with a link to its clip and prompt."""
    measures = present(run, results)
    rows = tuple(
        (
            Cell(result.item.clip, target=anchor(run, result.item.clip, result.item.kind)),
            Cell(run.methods[result.item.method], mark=marks[result.item.method]),
            result.item.kind,
            *(cell(measure, result) for measure in measures),
        )
        for result in results
    )
    columns = ("Clip", "Method", "Prompt", *(measure.label for measure in measures))
    return Table(f"All numbers of {len(results)} videos", columns, rows)


def loss_chart(run: Run, results: Sequence[Result], marks: Mapping[str, Mark]) -> Iterator[Chart]:
    """The median loss of each method's videos. Losses of different signals have different units, so
    each is relative to its first value.
    """
    curves = []
    for name, label in run.methods.items():
        relative = [
            _resampled(result.losses)
            for result in results
            if result.item.method == name and len(result.losses) > 1 and result.losses[0] > 0
        ]
        if relative:
            median = tuple(float(value) for value in numpy.median(relative, axis=0))
            curves.append(Curve(label, median, marks[name]))
    if curves:
        yield Chart(LOSSES, "of all updates", tuple(curves))


def present(run: Run, results: Sequence[Result]) -> list[Measure]:
    """The measures that at least one result has."""
    return [
        measure
        for measure in (*run.measures, *COSTS)
        if any(measure.name in result.numbers for result in results)
    ]


def cell(measure: Measure, result: Result) -> Cell:
    """A number of one video, or a dash."""
    value = result.numbers.get(measure.name)
    return Cell("–") if value is None else Cell(measure.write(value), value)


def judged(measure: Measure, kinds: Sequence[str]) -> Measure:
    """The measure for prompts of these kinds. One that is only about new prompts has no good
    direction where captions are among them.
    """
    unclear = measure.name in OF_NEW_PROMPTS and CAPTION in kinds
    return replace(measure, better="none") if unclear else measure


def compared(measure: Measure, cells: Sequence[Cell]) -> list[Cell]:
    """Cells of one measure for several methods, with bars from 0 to the largest. The best one is
    bold where the measure has a good direction.
    """
    known = [one.value for one in cells if one.value is not None]
    if len(set(known)) < 2:
        return list(cells)
    best = {"higher": max(known), "lower": min(known)}.get(measure.better)
    top = max(map(abs, known))
    return [
        one
        if one.value is None
        else replace(one, best=one.value == best, share=max(0.0, one.value / top))
        for one in cells
    ]


def anchor(run: Run, clip: str, kind: str | None = None) -> str:
    """The address in the page of a clip, or of its videos for one kind of prompt."""
    place = f"clip-{run.clips.index(clip) + 1}"
    return place if kind is None else f"{place}-{run.kinds.index(kind) + 1}"


def _means(run: Run, measure: Measure, values: Mapping[str, Values]) -> dict[str, Cell]:
    """The cells of a column by method."""
    means = [_mean(measure, over_clips(of, run.kinds), len(of)) for of in values.values()]
    return dict(zip(values, compared(judged(measure, run.kinds), means), strict=True))


def _differences(run: Run, measure: Measure, values: Mapping[str, Values]) -> dict[str, Cell]:
    """The cells of a column by method, without the baseline."""
    baseline, cells = values[run.baseline], {}
    for name, mine in values.items():
        found = paired(mine, baseline, run.kinds)
        shown = _mean(measure, found, len(mine.keys() & baseline.keys()))
        if found is not None:
            apart = not found.low <= 0 <= found.high
            shown = replace(shown, text=f"{found.mean:+.3f}", best=apart)
        cells[name] = shown
    return {name: shown for name, shown in cells.items() if name != run.baseline}


def _table(
    run: Run,
    caption: str,
    columns: Mapping[Measure, Mapping[str, Cell]],
    marks: Mapping[str, Mark],
) -> Table:
    names = [name for name in run.methods if all(name in cells for cells in columns.values())]
    rows = (
        (_heading(run, name, marks), *(cells[name] for cells in columns.values())) for name in names
    )
    labels = ("Method", *(measure.label for measure in columns))
    return Table(caption, labels, tuple(rows), _hints(columns, run.kinds))


def _hints(measures: Iterable[Measure], kinds: Sequence[str]) -> tuple[str, ...]:
    """The tooltips of a table's headers, the one of the methods first."""
    ends = {
        measure: f"{measure.better} is better" if measure.better != "none" else ""
        for measure in measures
    }
    notes = (
        end + OF_NEW_PROMPTS_NOTE * (judged(measure, kinds) != measure)
        for measure, end in ends.items()
    )
    return ("", *notes)


def _values(
    results: Sequence[Result], method: str, measure: Measure
) -> dict[tuple[str, str], float]:
    """By clip and kind of prompt, without numbers that have no meaning for their prompt."""
    return {
        (result.item.clip, result.item.kind): result.numbers[measure.name]
        for result in results
        if result.item.method == method
        and measure.name in result.numbers
        and not (measure.name in OF_NEW_PROMPTS and result.item.kind == CAPTION)
    }


def _heading(run: Run, name: str, marks: Mapping[str, Mark]) -> Cell:
    baseline = " (baseline)" if name == run.baseline else ""
    return Cell(run.methods[name] + baseline, mark=marks[name])


def _mean(measure: Measure, found: Interval | None, videos: int) -> Cell:
    """A mean with its interval, which a constant cost lacks, and the number of videos behind it."""
    if found is None:
        return Cell("–")
    low, high = measure.write(found.low), measure.write(found.high)
    around = f"{low} to {high}, " if low != high or measure not in COSTS else ""
    return Cell(measure.write(found.mean), found.mean, note=f"{around}n = {videos}")


def _resampled(losses: Sequence[float]) -> numpy.ndarray:
    places = numpy.linspace(0, 1, RESOLUTION)
    relative = numpy.asarray(losses) / losses[0]
    return numpy.interp(places, numpy.linspace(0, 1, len(losses)), relative)
