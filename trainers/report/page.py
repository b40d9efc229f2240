"""A run as a page: tables of the methods, their losses, the videos of each clip side by side, and
all numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ditflow.files import StorageError
from ditflow.video import VideoError
from ditflow.visual import Curve, Group, Mark, Page, Panel, Section, preview
from trainers.benchmark.text import ZERO_SHOT_NOTE
from trainers.report.numbers import (
    anchor,
    cell,
    compared,
    every_number,
    judged,
    loss_chart,
    present,
    tables,
)
from trainers.report.parts import legend, motion_pictures, reach_of, reference_pictures
from trainers.report.run import ReportError, Result, Run, read_flow

PLAYER = (
    "All videos play at the same time, frame by frame. Drag the slider to stop and step. "
    "Click a column to sort by it."
)
FLOW = (
    "Attention motion flow: where each token goes from one latent frame to the next, "
    "as the backbone sees it."
)


def page_of(run: Run, results: Sequence[Result], share: int) -> Page:
    """The page, with at most `share` bytes for each video. Its sections are made one at a time,
    while it is written.
    """
    marks = {
        name: Mark(index, dashed=name in run.zero_shot) for index, name in enumerate(run.methods)
    }
    return Page(
        title=f"Motion transfer: {len(run.methods)} methods, {len(run.clips)} clips",
        paragraphs=(PLAYER, *([ZERO_SHOT_NOTE] if run.zero_shot else [])),
        facts=run.facts,
        tables=tuple(tables(run, results, marks)),
        charts=tuple(loss_chart(run, results, marks)),
        legend=legend(FLOW),
        kinds=run.kinds if len(run.kinds) > 1 else (),
        kind=_first_kind(run, results),
        labels=tuple((label, marks[name]) for name, label in run.methods.items()),
        sections=(
            section(run, clip, [one for one in results if one.item.clip == clip], marks, share)
            for clip in run.clips
        ),
        appendix=(every_number(run, results, marks),),
    )


def section(
    run: Run, clip: str, results: Sequence[Result], marks: Mapping[str, Mark], share: int
) -> Section:
    """A clip, and the videos of all methods, prompt by prompt."""
    reference, flow = _reference(run, clip, share)
    groups = []
    for kind in run.kinds:
        row = [result for result in results if result.item.kind == kind]
        columns = {
            measure.label: compared(judged(measure, (kind,)), [cell(measure, one) for one in row])
            for measure in present(run, row)
        }
        panels = []
        for index, result in enumerate(row):
            panel = _panel(run, result, marks[result.item.method], flow, share)
            numbers = tuple((label, cells[index]) for label, cells in columns.items())
            panels.append(replace(panel, numbers=numbers if result.numbers else ()))
        prompt = next((result.prompt for result in row if result.prompt), "")
        name = kind if len(run.kinds) > 1 else ""
        if panels:
            groups.append(Group(tuple(panels), prompt, name, anchor(run, clip, kind)))
    return Section(clip, anchor(run, clip), reference, tuple(groups))


def _first_kind(run: Run, results: Sequence[Result]) -> str:
    """The first kind of prompt with videos of all methods. Without one, all kinds are shown."""
    for kind in run.kinds if len(run.kinds) > 1 else ():
        if {result.item.method for result in results if result.item.kind == kind} == set(
            run.methods
        ):
            return kind
    return ""


def _reference(run: Run, clip: str, share: int) -> tuple[Panel, Tensor | None]:
    panel = _with_video(Panel("Reference"), run.reference(clip), share)
    try:
        flow = read_flow(run.reference(clip).with_suffix(".safetensors"))
    except ReportError as error:
        return replace(panel, problem=panel.problem or str(error)), None
    if flow is None:
        return panel, None
    notes = (f"longest motion {reach_of(flow):.2g} tokens",)
    return replace(panel, pictures=reference_pictures(flow), notes=notes), flow


def _panel(run: Run, result: Result, mark: Mark, reference: Tensor | None, share: int) -> Panel:
    panel = Panel(
        run.methods[result.item.method],
        curve=Curve("loss", result.losses, mark) if result.losses else None,
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
