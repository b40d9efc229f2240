"""A run as a page: a table of methods, their losses, the videos of each clip side by side, and all numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy
from torch import Tensor

from ditflow.files import StorageError
from ditflow.video import VideoError
from ditflow.visual import Cell, Chart, Curve, Group, Page, Panel, Section, Table, preview
from trainers.report_parts import legend, motion_pictures, reach_of, reference_pictures
from trainers.report_run import COSTS, Measure, ReportError, Result, Run, read_flow

PARAGRAPHS = ("All videos play in one time, so that they can be compared frame by frame; drag the slider to stop and step. Click a column to sort by it.",)
FLOW = "Attention motion flow: where each token goes from one latent frame to the next, as the backbone sees it."
RESOLUTION = 64  # points of a mean loss curve


def page_of(run: Run, share: int) -> Page:
    """The page, with at most `share` bytes for each video; its sections are made one by one, while it is written."""
    results = list(run.results())
    colours = {name: index for index, (name, _) in enumerate(run.methods)}
    return Page(
        title=f"Motion transfer: {len(run.methods)} methods, {len(run.clips)} clips",
        paragraphs=PARAGRAPHS,
        facts=run.facts,
        tables=(summary(run, results, colours),),
        charts=tuple(loss_chart(run, results, colours)),
        legend=legend(FLOW),
        kinds=run.kinds if len(run.kinds) > 1 else (),
        labels=tuple((label, colours[name]) for name, label in run.methods),
        sections=(section(run, clip, [result for result in results if result.clip == clip], colours, share) for clip in run.clips),
        appendix=(every_number(run, results, colours),),
    )


def summary(run: Run, results: Sequence[Result], colours: Mapping[str, int]) -> Table:
    """One row for each method: means over all its videos."""
    measures = _present(run, results)
    means = {name: {measure.name: _mean(measure, [result for result in results if result.method == name]) for measure in measures} for name, _ in run.methods}
    columns = [_marked(measure, [means[name][measure.name] for name, _ in run.methods]) for measure in measures]
    rows = []
    for index, (name, label) in enumerate(run.methods):
        made = sum(result.method == name and not result.problem for result in results)
        heading = Cell(label + (" (baseline)" if name == run.baseline else ""), colour=colours[name])
        rows.append((heading, *(column[index] for column in columns), Cell(str(made), made)))
    hints = ("", *(f"{measure.better} is better" if measure.better != "none" else "" for measure in measures), "videos that could be made and measured")
    return Table("Means over all clips and prompts; the best of a column is bold", ("Method", *(m.label for m in measures), "Videos"), tuple(rows), hints)


def every_number(run: Run, results: Sequence[Result], colours: Mapping[str, int]) -> Table:
    """One row for each video, which leads to its clip."""
    measures, labels = _present(run, results), dict(run.methods)
    anchors = {clip: _anchor(index) for index, clip in enumerate(run.clips)}
    rows = tuple(
        (Cell(result.clip, target=anchors[result.clip]), Cell(labels[result.method], colour=colours[result.method]), result.kind, *_cells(measures, result))
        for result in results
    )
    return Table(f"All numbers of {len(results)} videos", ("Clip", "Method", "Prompt", *(measure.label for measure in measures)), rows)


def loss_chart(run: Run, results: Sequence[Result], colours: Mapping[str, int]) -> Iterator[Chart]:
    """Losses of different signals have different units, so each is shown relative to where it began: the median over a method's videos."""
    curves = []
    for name, label in run.methods:
        relative = [_resampled(result.losses) for result in results if result.method == name and len(result.losses) > 1 and result.losses[0] > 0]
        if relative:
            curves.append(Curve(label, tuple(float(value) for value in numpy.median(relative, axis=0)), colours[name]))
    if curves:
        yield Chart("Loss while motion is optimised, as a share of the first: median over a method's videos", "of all updates", tuple(curves))


def section(run: Run, clip: str, results: Sequence[Result], colours: Mapping[str, int], share: int) -> Section:
    """A clip, and what the methods made of it, prompt by prompt."""
    reference, flow = _reference(run, clip, share)
    groups = []
    for kind in run.kinds:
        row = [result for result in results if result.kind == kind]
        measures = _present(run, row)
        marked = [_marked(measure, [result.numbers.get(measure.name) for result in row]) for measure in measures]
        panels = []
        for index, result in enumerate(row):
            numbers = tuple((measure.label, cells[index]) for measure, cells in zip(measures, marked, strict=True)) if result.numbers else ()
            panels.append(replace(_panel(run, result, colours[result.method], flow, share), numbers=numbers))
        prompt = next((result.prompt for result in row if result.prompt), "")
        groups.append(Group(tuple(panels), prompt, kind if len(run.kinds) > 1 else ""))
    return Section(clip, _anchor(run.clips.index(clip)), reference, tuple(groups))


def _reference(run: Run, clip: str, share: int) -> tuple[Panel, Tensor | None]:
    panel = _with_video(Panel("Reference"), run.reference(clip, ".mp4"), share)
    try:
        flow = read_flow(run.reference(clip, ".safetensors"))
    except ReportError as error:
        return replace(panel, problem=panel.problem or str(error)), None
    if flow is None:
        return panel, None
    return replace(panel, pictures=reference_pictures(flow), notes=(f"longest motion {reach_of(flow):.2g} tokens",)), flow


def _panel(run: Run, result: Result, colour: int, reference: Tensor | None, share: int) -> Panel:
    curve = Curve("loss", result.losses, colour) if result.losses else None
    panel = Panel(dict(run.methods)[result.method], curve=curve, notes=result.notes, problem=result.problem, colour=colour)
    if not result.problem or run.file(result, ".mp4").is_file():
        panel = _with_video(panel, run.file(result, ".mp4"), share)
    try:
        flow = read_flow(run.file(result, ".safetensors"))
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


def _cells(measures: Sequence[Measure], result: Result) -> Iterator[Cell]:
    return (_cell(measure, result.numbers.get(measure.name)) for measure in measures)


def _cell(measure: Measure, value: float | None) -> Cell:
    return Cell("–" if value is None else measure.write(value), value)


def _marked(measure: Measure, values: Sequence[float | None]) -> list[Cell]:
    """Cells of one measure for several methods: bars from 0 to the largest, the best in bold where one end is good."""
    known = [value for value in values if value is not None]
    cells = [_cell(measure, value) for value in values]
    if len(set(known)) < 2:
        return cells
    best = {"higher": max, "lower": min}.get(measure.better, lambda _: None)(known)
    top = max(map(abs, known))
    return [cell if cell.value is None else replace(cell, best=cell.value == best, share=max(0.0, cell.value / top)) for cell in cells]


def _mean(measure: Measure, results: Sequence[Result]) -> float | None:
    values = [result.numbers[measure.name] for result in results if measure.name in result.numbers]
    return fmean(values) if values else None


def _resampled(losses: Sequence[float]) -> numpy.ndarray:
    places = numpy.linspace(0, 1, RESOLUTION)
    return numpy.interp(places, numpy.linspace(0, 1, len(losses)), numpy.asarray(losses) / losses[0])


def _anchor(index: int) -> str:
    return f"clip-{index + 1}"
