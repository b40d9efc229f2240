"""A run as a page: a table of methods, their losses, the videos of each clip side by side, and all numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
from torch import Tensor

from ditflow.files import StorageError
from ditflow.video import VideoError
from ditflow.visual import Cell, Chart, Curve, Group, Page, Panel, Section, Table, preview
from trainers.benchmark_statistics import Interval, over_clips, paired
from trainers.benchmark_tables import ZERO_SHOT_NOTE
from trainers.report_parts import legend, motion_pictures, reach_of, reference_pictures
from trainers.report_run import COSTS, Measure, ReportError, Result, Run, read_flow

PARAGRAPHS = ("All videos play in one time, so that they can be compared frame by frame; drag the slider to stop and step. Click a column to sort by it.",)
FLOW = "Attention motion flow: where each token goes from one latent frame to the next, as the backbone sees it."
CONFIDENCE = " with their 95 % bootstrap intervals"
Values = Mapping[str, Mapping[tuple[str, str], float]]  # of one measure: method to (clip, kind of prompt) to number
RESOLUTION = 64  # points of a mean loss curve


def page_of(run: Run, results: Sequence[Result], share: int) -> Page:
    """The page, with at most `share` bytes for each video; its sections are made one by one, while it is written."""
    colours = {name: index for index, name in enumerate(run.methods)}
    return Page(
        title=f"Motion transfer: {len(run.methods)} methods, {len(run.clips)} clips",
        paragraphs=(*PARAGRAPHS, *([ZERO_SHOT_NOTE] if run.zero_shot else [])),
        facts=run.facts,
        tables=tuple(tables(run, results, colours)),
        charts=tuple(loss_chart(run, results, colours)),
        legend=legend(FLOW),
        kinds=run.kinds if len(run.kinds) > 1 else (),
        labels=tuple((label, colours[name]) for name, label in run.methods.items()),
        sections=(section(run, clip, [result for result in results if result.item.clip == clip], colours, share) for clip in run.clips),
        appendix=(every_number(run, results, colours),),
    )


def tables(run: Run, results: Sequence[Result], colours: Mapping[str, int]) -> Iterator[Table]:
    """Means over clips, a row for each method, and how far the others are from the baseline."""
    values = {measure: {name: _values(results, name, measure) for name in run.methods} for measure in _present(run, results)}
    yield _means(run, results, values, colours)
    others, measured = [name for name in run.methods if name != run.baseline], {measure: of for measure, of in values.items() if measure in run.measures}
    if run.baseline in run.methods and others and measured:
        yield _differences(run, others, measured, colours)


def _means(run: Run, results: Sequence[Result], values: Mapping[Measure, Values], colours: Mapping[str, int]) -> Table:
    columns = [_marked(measure, [over_clips(of[name], run.kinds) for name in run.methods]) for measure, of in values.items()]
    made = [sum(result.item.method == name and bool(result.numbers) for result in results) for name in run.methods]
    cells = [*columns, [Cell(str(number), number) for number in made]]
    rows = [(_heading(run, name, colours), *(column[index] for column in cells)) for index, name in enumerate(run.methods)]
    hints = ("", *(f"{measure.better} is better" if measure.better != "none" else "" for measure in values), "videos that were made and measured")
    caption = f"Means over clips{CONFIDENCE}; the best of a column is bold"
    return Table(caption, ("Method", *(measure.label for measure in values), "Videos"), tuple(rows), hints)


def _differences(run: Run, others: Sequence[str], values: Mapping[Measure, Values], colours: Mapping[str, int]) -> Table:
    def cell(measure: Measure, name: str) -> Cell:
        found = paired(values[measure][name], values[measure][run.baseline], run.kinds)
        return Cell("–") if found is None else replace(_cell(measure, found), text=f"{found.mean:+.3f}", best=not found.low <= 0 <= found.high)

    rows = [(_heading(run, name, colours), *(cell(measure, name) for measure in values)) for name in others]
    caption = f"Difference to {run.methods[run.baseline]} on the same clips and prompts{CONFIDENCE}; bold where the interval leaves out 0"
    return Table(caption, ("Method", *(measure.label for measure in values)), tuple(rows))


def every_number(run: Run, results: Sequence[Result], colours: Mapping[str, int]) -> Table:
    """One row for each video, which leads to its clip."""
    measures = _present(run, results)
    anchors = {clip: _anchor(index) for index, clip in enumerate(run.clips)}
    rows = tuple(
        (
            Cell(result.item.clip, target=anchors[result.item.clip]),
            Cell(run.methods[result.item.method], colour=colours[result.item.method]),
            result.item.kind,
            *(_cell(measure, result.numbers.get(measure.name)) for measure in measures),
        )
        for result in results
    )
    return Table(f"All numbers of {len(results)} videos", ("Clip", "Method", "Prompt", *(measure.label for measure in measures)), rows)


def loss_chart(run: Run, results: Sequence[Result], colours: Mapping[str, int]) -> Iterator[Chart]:
    """Losses of different signals have different units, so each is shown relative to where it began: the median over a method's videos."""
    curves = []
    for name, label in run.methods.items():
        relative = [_resampled(result.losses) for result in results if result.item.method == name and len(result.losses) > 1 and result.losses[0] > 0]
        if relative:
            curves.append(Curve(label, tuple(float(value) for value in numpy.median(relative, axis=0)), colours[name]))
    if curves:
        yield Chart("Loss while motion is optimised, as a share of the first: median over a method's videos", "of all updates", tuple(curves))


def section(run: Run, clip: str, results: Sequence[Result], colours: Mapping[str, int], share: int) -> Section:
    """A clip, and what the methods made of it, prompt by prompt."""
    reference, flow = _reference(run, clip, share)
    groups = []
    for kind in run.kinds:
        row = [result for result in results if result.item.kind == kind]
        measures = _present(run, row)
        marked = [_marked(measure, [result.numbers.get(measure.name) for result in row]) for measure in measures]
        panels = []
        for index, result in enumerate(row):
            numbers = tuple((measure.label, cells[index]) for measure, cells in zip(measures, marked, strict=True)) if result.numbers else ()
            panels.append(replace(_panel(run, result, colours[result.item.method], flow, share), numbers=numbers))
        prompt = next((result.prompt for result in row if result.prompt), "")
        groups.append(Group(tuple(panels), prompt, kind if len(run.kinds) > 1 else ""))
    return Section(clip, _anchor(run.clips.index(clip)), reference, tuple(groups))


def _reference(run: Run, clip: str, share: int) -> tuple[Panel, Tensor | None]:
    panel = _with_video(Panel("Reference"), run.reference(clip), share)
    try:
        flow = read_flow(run.reference(clip).with_suffix(".safetensors"))
    except ReportError as error:
        return replace(panel, problem=panel.problem or str(error)), None
    if flow is None:
        return panel, None
    return replace(panel, pictures=reference_pictures(flow), notes=(f"longest motion {reach_of(flow):.2g} tokens",)), flow


def _panel(run: Run, result: Result, colour: int, reference: Tensor | None, share: int) -> Panel:
    curve = Curve("loss", result.losses, colour) if result.losses else None
    panel = Panel(run.methods[result.item.method], curve=curve, notes=result.notes, problem=result.problem, colour=colour)
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
    return [measure for measure in (*run.measures, *COSTS) if any(measure.name in result.numbers for result in results)]


def _values(results: Sequence[Result], method: str, measure: Measure) -> dict[tuple[str, str], float]:
    """By clip and kind of prompt, as the statistics want them."""
    mine = (result for result in results if result.item.method == method and measure.name in result.numbers)
    return {(result.item.clip, result.item.kind): result.numbers[measure.name] for result in mine}


def _heading(run: Run, name: str, colours: Mapping[str, int]) -> Cell:
    return Cell(run.methods[name] + (" (baseline)" if name == run.baseline else ""), colour=colours[name])


def _cell(measure: Measure, found: float | Interval | None) -> Cell:
    if found is None:
        return Cell("–")
    if isinstance(found, float):
        return Cell(measure.write(found), found)
    note = "" if measure in COSTS else f"{measure.write(found.low)} to {measure.write(found.high)}"
    return Cell(measure.write(found.mean), found.mean, note=note)


def _marked(measure: Measure, found: Sequence[float | Interval | None]) -> list[Cell]:
    """Cells of one measure for several methods: bars from 0 to the largest, the best in bold where one end is good."""
    cells = [_cell(measure, value) for value in found]
    known = [cell.value for cell in cells if cell.value is not None]
    if len(set(known)) < 2:
        return cells
    best = {"higher": max, "lower": min}.get(measure.better, lambda _: None)(known)
    top = max(map(abs, known))
    return [cell if cell.value is None else replace(cell, best=cell.value == best, share=max(0.0, cell.value / top)) for cell in cells]


def _resampled(losses: Sequence[float]) -> numpy.ndarray:
    places = numpy.linspace(0, 1, RESOLUTION)
    return numpy.interp(places, numpy.linspace(0, 1, len(losses)), numpy.asarray(losses) / losses[0])


def _anchor(index: int) -> str:
    return f"clip-{index + 1}"
