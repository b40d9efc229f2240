"""A run as a page: a table of methods, their losses, the videos of each clip side by side, and all
numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
from torch import Tensor

from ditflow.files import StorageError
from ditflow.video import VideoError
from ditflow.visual import Cell, Chart, Curve, Group, Mark, Page, Panel, Section, Table, preview
from trainers.benchmark.statistics import CAPTION, OF_NEW_PROMPTS, Interval, over_clips, paired
from trainers.benchmark.tables import ZERO_SHOT_NOTE
from trainers.report.parts import legend, motion_pictures, reach_of, reference_pictures
from trainers.report.run import COSTS, Measure, ReportError, Result, Run, read_flow

PARAGRAPHS = (
    "All videos play in one time, so that they can be compared frame by frame; drag the slider to stop and step. Click a column to sort by it.",
)
FLOW = "Attention motion flow: where each token goes from one latent frame to the next, as the backbone sees it."
CONFIDENCE = "with their 95 % bootstrap intervals and the number n of videos behind each"
OF_NEW_PROMPTS_NOTE = " for new prompts, which alone are in the mean; a caption describes the reference, so looking like it is right there: none is marked best"
Values = Mapping[
    str, Mapping[tuple[str, str], float]
]  # of one measure: method to (clip, kind of prompt) to number
RESOLUTION = 64  # points of a mean loss curve


def page_of(run: Run, results: Sequence[Result], share: int) -> Page:
    """The page, with at most `share` bytes for each video; its sections are made one by one, while
    it is written.
    """
    marks = {
        name: Mark(index, dashed=name in run.zero_shot) for index, name in enumerate(run.methods)
    }
    kinds = run.kinds if len(run.kinds) > 1 else ("",)
    return Page(
        title=f"Motion transfer: {len(run.methods)} methods, {len(run.clips)} clips",
        paragraphs=(*PARAGRAPHS, *([ZERO_SHOT_NOTE] if run.zero_shot else [])),
        facts=run.facts,
        tables=tuple(tables(run, results, marks)),
        charts=tuple(loss_chart(run, results, marks)),
        legend=legend(FLOW),
        kinds=kinds if len(kinds) > 1 else (),
        kind=max(
            kinds, key=lambda kind: sum(result.item.kind == kind for result in results)
        ),  # the first of those that all methods have
        labels=tuple((label, marks[name]) for name, label in run.methods.items()),
        sections=(
            section(
                run, clip, [result for result in results if result.item.clip == clip], marks, share
            )
            for clip in run.clips
        ),
        appendix=(every_number(run, results, marks),),
    )


def tables(run: Run, results: Sequence[Result], marks: Mapping[str, Mark]) -> Iterator[Table]:
    """Means over clips, a row for each method, and how far the others are from the baseline."""
    values = {
        measure: {name: _values(results, name, measure) for name in run.methods}
        for measure in _present(run, results)
    }
    yield _means(run, values, marks)
    others, measured = (
        [name for name in run.methods if name != run.baseline],
        {measure: of for measure, of in values.items() if measure in run.measures},
    )
    if run.baseline in run.methods and others and measured:
        yield _differences(run, others, measured, marks)


def _means(run: Run, values: Mapping[Measure, Values], marks: Mapping[str, Mark]) -> Table:
    def cell(measure: Measure, name: str) -> Cell:
        return _mean(
            measure, over_clips(values[measure][name], run.kinds), len(values[measure][name])
        )

    columns = [
        _compared(_judged(measure, run.kinds), [cell(measure, name) for name in run.methods])
        for measure in values
    ]
    rows = [
        (_heading(run, name, marks), *cells)
        for name, *cells in zip(run.methods, *columns, strict=True)
    ]
    caption = f"Means over clips {CONFIDENCE}; the best of a column is bold"
    return Table(
        caption,
        ("Method", *(measure.label for measure in values)),
        tuple(rows),
        _hints(values, run.kinds),
    )


def _differences(
    run: Run, others: Sequence[str], values: Mapping[Measure, Values], marks: Mapping[str, Mark]
) -> Table:
    def cell(measure: Measure, name: str) -> Cell:
        mine, theirs = values[measure][name], values[measure][run.baseline]
        found = paired(mine, theirs, run.kinds)
        shown = _mean(measure, found, len(mine.keys() & theirs.keys()))
        return (
            shown
            if found is None
            else replace(shown, text=f"{found.mean:+.3f}", best=not found.low <= 0 <= found.high)
        )

    rows = [
        (_heading(run, name, marks), *(cell(measure, name) for measure in values))
        for name in others
    ]
    caption = f"Difference to {run.methods[run.baseline]} on the same clips and prompts {CONFIDENCE}; bold where the interval leaves out 0"
    return Table(
        caption,
        ("Method", *(measure.label for measure in values)),
        tuple(rows),
        _hints(values, run.kinds),
    )


def every_number(run: Run, results: Sequence[Result], marks: Mapping[str, Mark]) -> Table:
    """One row for each video, which leads to its clip and prompt."""
    measures = _present(run, results)
    rows = tuple(
        (
            Cell(result.item.clip, target=_anchor(run, result.item.clip, result.item.kind)),
            Cell(run.methods[result.item.method], mark=marks[result.item.method]),
            result.item.kind,
            *(_cell(measure, result.numbers.get(measure.name)) for measure in measures),
        )
        for result in results
    )
    return Table(
        f"All numbers of {len(results)} videos",
        ("Clip", "Method", "Prompt", *(measure.label for measure in measures)),
        rows,
    )


def loss_chart(run: Run, results: Sequence[Result], marks: Mapping[str, Mark]) -> Iterator[Chart]:
    """Losses of different signals have different units, so each is shown relative to where it
    began: the median over a method's videos.
    """
    curves = []
    for name, label in run.methods.items():
        relative = [
            _resampled(result.losses)
            for result in results
            if result.item.method == name and len(result.losses) > 1 and result.losses[0] > 0
        ]
        if relative:
            curves.append(
                Curve(
                    label,
                    tuple(float(value) for value in numpy.median(relative, axis=0)),
                    marks[name],
                )
            )
    if curves:
        yield Chart(
            "Loss while motion is optimised, as a share of the first: median over a method's videos",
            "of all updates",
            tuple(curves),
        )


def section(
    run: Run, clip: str, results: Sequence[Result], marks: Mapping[str, Mark], share: int
) -> Section:
    """A clip, and what the methods made of it, prompt by prompt."""
    reference, flow = _reference(run, clip, share)
    groups = []
    for kind in run.kinds:
        row = [result for result in results if result.item.kind == kind]
        measures = _present(run, row)
        compared = [
            _compared(
                _judged(measure, (kind,)),
                [_cell(measure, result.numbers.get(measure.name)) for result in row],
            )
            for measure in measures
        ]
        panels = []
        for index, result in enumerate(row):
            numbers = (
                tuple(
                    (measure.label, cells[index])
                    for measure, cells in zip(measures, compared, strict=True)
                )
                if result.numbers
                else ()
            )
            panels.append(
                replace(
                    _panel(run, result, marks[result.item.method], flow, share), numbers=numbers
                )
            )
        prompt = next((result.prompt for result in row if result.prompt), "")
        groups.append(
            Group(
                tuple(panels), prompt, kind if len(run.kinds) > 1 else "", _anchor(run, clip, kind)
            )
        )
    return Section(clip, _anchor(run, clip), reference, tuple(groups))


def _reference(run: Run, clip: str, share: int) -> tuple[Panel, Tensor | None]:
    panel = _with_video(Panel("Reference"), run.reference(clip), share)
    try:
        flow = read_flow(run.reference(clip).with_suffix(".safetensors"))
    except ReportError as error:
        return replace(panel, problem=panel.problem or str(error)), None
    if flow is None:
        return panel, None
    return replace(
        panel,
        pictures=reference_pictures(flow),
        notes=(f"longest motion {reach_of(flow):.2g} tokens",),
    ), flow


def _panel(run: Run, result: Result, mark: Mark, reference: Tensor | None, share: int) -> Panel:
    curve = Curve("loss", result.losses, mark) if result.losses else None
    panel = Panel(
        run.methods[result.item.method],
        curve=curve,
        notes=result.notes,
        problem=result.problem,
        mark=mark,
    )
    if not result.problem or run.video(result).is_file():
        panel = _with_video(panel, run.video(result), share)
    try:
        flow = read_flow(run.video(result).with_suffix(".safetensors"))
    except ReportError as error:
        return replace(panel, problem=panel.problem or str(error))
    return panel if flow is None else replace(panel, pictures=motion_pictures(flow, reference))


def _with_video(panel: Panel, path: Path, share: int) -> Panel:
    try:
        found = preview(path, share)
    except (VideoError, StorageError, OSError) as error:
        return replace(panel, problem=panel.problem or str(error))
    return replace(panel, video=found.video, shape=found.shape)


def _present(run: Run, results: Sequence[Result]) -> list[Measure]:
    """The measures that at least one result has."""
    return [
        measure
        for measure in (*run.measures, *COSTS)
        if any(measure.name in result.numbers for result in results)
    ]


def _values(
    results: Sequence[Result], method: str, measure: Measure
) -> dict[tuple[str, str], float]:
    """By clip and kind of prompt, as the statistics want them; those that mean nothing are left
    out.
    """
    mine = (
        result
        for result in results
        if result.item.method == method and measure.name in result.numbers
    )
    told = (
        result
        for result in mine
        if not (measure.name in OF_NEW_PROMPTS and result.item.kind == CAPTION)
    )
    return {(result.item.clip, result.item.kind): result.numbers[measure.name] for result in told}


def _heading(run: Run, name: str, marks: Mapping[str, Mark]) -> Cell:
    return Cell(
        run.methods[name] + (" (baseline)" if name == run.baseline else ""), mark=marks[name]
    )


def _cell(measure: Measure, value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(measure.write(value), value)


def _mean(measure: Measure, found: Interval | None, videos: int) -> Cell:
    """A mean with its interval, which a cost that is always the same lacks, and the number of
    videos behind it.
    """
    if found is None:
        return Cell("–")
    low, high = measure.write(found.low), measure.write(found.high)
    around = f"{low} to {high}, " if low != high or measure not in COSTS else ""
    return Cell(measure.write(found.mean), found.mean, note=f"{around}n = {videos}")


def _judged(measure: Measure, kinds: Sequence[str]) -> Measure:
    """The measure as it is for prompts of these kinds: with captions among them, one of new prompts
    has no good end.
    """
    return (
        replace(measure, better="none")
        if measure.name in OF_NEW_PROMPTS and CAPTION in kinds
        else measure
    )


def _compared(measure: Measure, cells: Sequence[Cell]) -> list[Cell]:
    """Cells of one measure for several methods: bars from 0 to the largest, the best in bold where
    one end is good.
    """
    known = [cell.value for cell in cells if cell.value is not None]
    if len(set(known)) < 2:
        return list(cells)
    best = {"higher": max, "lower": min}.get(measure.better, lambda _: None)(known)
    top = max(map(abs, known))
    return [
        cell
        if cell.value is None
        else replace(cell, best=cell.value == best, share=max(0.0, cell.value / top))
        for cell in cells
    ]


def _hints(measures: Iterable[Measure], kinds: Sequence[str]) -> tuple[str, ...]:
    """What the headers of a table say when they are pointed at, the one of the methods first."""
    ends = {
        measure: f"{measure.better} is better" if measure.better != "none" else ""
        for measure in measures
    }
    return (
        "",
        *(
            end + OF_NEW_PROMPTS_NOTE * (_judged(measure, kinds) != measure)
            for measure, end in ends.items()
        ),
    )


def _resampled(losses: Sequence[float]) -> numpy.ndarray:
    places = numpy.linspace(0, 1, RESOLUTION)
    return numpy.interp(
        places, numpy.linspace(0, 1, len(losses)), numpy.asarray(losses) / losses[0]
    )


def _anchor(run: Run, clip: str, kind: str | None = None) -> str:
    """The address of a clip in the page, or of its videos of one kind of prompt."""
    place = f"clip-{run.clips.index(clip) + 1}"
    return place if kind is None else f"{place}-{run.kinds.index(kind) + 1}"
