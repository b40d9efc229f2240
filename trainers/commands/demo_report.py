"""What the demo shows: numbers, a table, and the page with reference, plain, optimised and injected
videos side by side.
"""

# T pixel frames, C channels, Y X pixel rows and columns, F latent frames, S tokens per frame
from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table as TerminalTable
from torch import Tensor

from datamodules.synthetic import obeys
from ditflow import __version__
from ditflow.files import atomic_file, write_json
from ditflow.metrics import motion_cosine
from ditflow.models import Model
from ditflow.transfer import extract_motion
from ditflow.video import read_video
from ditflow.visual import (
    Cell,
    Group,
    Page,
    Panel,
    Section,
    Table,
    contact_sheet,
    enlarged,
    png,
    preview,
    write_page,
)
from trainers.commands.demo_tasks import Task
from trainers.report.parts import legend, motion_pictures, reference_pictures

SHARE = 1_000_000  # bytes of a video in the page
COLUMNS = ("videos", "motion cosine", "prompt accuracy", "seconds", "number")
MEANING = {
    "plain": "plain: backbone alone",
    "optimised": "optimised: with clip",
    "injected": "injected: from bank",
}
INTRODUCTION = """\
Clips of a synthetic world, held out from the backbone's training, went into a motion bank; its motions went into new videos with other prompts and seeds.
Motion cosine compares the motion measured in a video with the exact motion of its reference: 1 is the same motion, 0 an unrelated one.
Prompt accuracy is the share of videos whose colours are those that the prompt names. Seconds are those of the whole command, start and all, for each video.
All videos play in one time; drag the slider to stop and step."""
FLOW = "Attention motion flow: where each token of the first latent frame is in each later one, as the backbone sees it."


def report(
    folder: Path,
    backbone: Model,
    tasks: Sequence[Task],
    seconds: Mapping[str, float],
    console: Console,
) -> None:
    """Measure every video, print the table, and write results.json, index.html and still.png."""
    clips = [measured(task, folder) for task in track(tasks, "measuring", console=console)]
    made = {
        "backbone": backbone.spec.name,
        "ditflow": __version__,
        "torch": torch.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    results = summary(clips, seconds) | made
    sections = (
        _section(backbone, clip, folder) for clip in track(clips, "drawing motion", console=console)
    )
    write_json(folder / "results.json", results)
    write_page(folder / "index.html", _page(results, sections))
    with atomic_file(folder / "still.png") as file:
        file.write(png(_still(clips, folder)))
    console.print(_terminal_table(results))
    for label, place in (
        ("videos side by side", "index.html"),
        ("numbers", "results.json"),
        ("the bank", "bank"),
    ):
        console.print(f"{label}: {folder / place}", soft_wrap=True, markup=False, highlight=False)


def measured(task: Task, folder: Path) -> dict[str, Any]:
    """All that is known of a clip and the videos made with it; files are relative to the folder."""
    flows = task.clip.flows()  # exact: (P, 2, Y, X)

    def video(file: str, prompt: str, seed: int) -> dict[str, Any]:
        frames = read_video(folder / file).frames
        return {
            "video": file,
            "prompt": prompt,
            "seed": seed,
            "motion_cosine": motion_cosine(flows, frames),
            "prompt_accuracy": float(obeys(frames, prompt)),
        }

    return {
        "name": task.name,
        "motion": task.clip.motion,
        "reference": {"video": task.reference, "prompt": task.clip.prompt},
        "plain": video(task.plain, task.prompt, task.seed),
        "optimised": video(task.optimised, task.prompt, task.seed),
        "injected": [video(file, prompt, task.new_seed) for prompt, file in task.injected.items()],
    }


def summary(clips: Sequence[Mapping[str, Any]], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Means over the videos of each kind; `seconds` are those for each video, None where a run was
    stopped before they were kept.
    """
    results: dict[str, Any] = {}
    for kind in MEANING:
        videos = [
            video
            for clip in clips
            for video in (clip[kind] if isinstance(clip[kind], list) else [clip[kind]])
        ]
        means = {
            name: sum(video[name] for video in videos) / len(videos)
            for name in ("motion_cosine", "prompt_accuracy")
        }
        results[kind] = means | {"seconds": seconds.get(kind), "videos": len(videos)}
    return results | {"clips": list(clips)}


def _terminal_table(results: Mapping[str, Any]) -> TerminalTable:
    table = TerminalTable(title="how the videos move, against their references")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
    for row in _summary_rows(results):
        table.add_row(*(cell.text for cell in row))
    return table


def _summary_rows(results: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    for kind, meaning in MEANING.items():
        mean = results[kind]
        seconds = (
            Cell("") if mean["seconds"] is None else Cell(f"{mean['seconds']:.1f}", mean["seconds"])
        )
        cosine, accuracy = (
            Cell(f"{mean['motion_cosine']:.2f}", mean["motion_cosine"]),
            Cell(f"{mean['prompt_accuracy']:.0%}", mean["prompt_accuracy"]),
        )
        yield Cell(meaning), cosine, accuracy, seconds, Cell(str(mean["videos"]), mean["videos"])


def _page(results: Mapping[str, Any], sections: Iterable[Section]) -> Page:
    table = Table(
        f"Means over the videos of each kind, backbone {results['backbone']}",
        COLUMNS,
        tuple(_summary_rows(results)),
    )
    return Page(
        "ditflow demo",
        sections,
        paragraphs=tuple(INTRODUCTION.splitlines()),
        tables=(table,),
        legend=legend(FLOW),
    )


def _section(backbone: Model, clip: Mapping[str, Any], folder: Path) -> Section:
    (_, given), *videos = _videos(clip)
    reference = _flow(backbone, folder / given["video"])
    panel = replace(_panel("reference", given, folder), pictures=reference_pictures(reference))
    panels = (
        replace(
            _panel(kind, video, folder),
            pictures=motion_pictures(_flow(backbone, folder / video["video"]), reference),
        )
        for kind, video in videos
    )
    return Section(
        f"{clip['name']}: {clip['motion']}", clip["name"], panel, (Group(tuple(panels)),)
    )


def _flow(backbone: Model, video: Path) -> Tensor:
    """Displacement (F-1, 2, H, W), in tokens, from the first frame to each later one; that a video
    may stand still is nothing to warn of here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        displacement = extract_motion(backbone, read_video(video).frames).cpu()
    grid = backbone.spec.compression.grid(backbone.spec.size)
    return displacement[0, 1:].mT.unflatten(-1, (grid.height, grid.width))


def _panel(label: str, video: Mapping[str, Any], folder: Path) -> Panel:
    found = preview(folder / video["video"], SHARE)
    cosine = video.get("motion_cosine")
    numbers = () if cosine is None else (("motion cosine", Cell(f"{cosine:.2f}", cosine)),)
    obeyed = (
        ()
        if cosine is None
        else ("prompt obeyed" if video["prompt_accuracy"] >= 0.5 else "prompt not obeyed",)
    )
    return Panel(
        label,
        video=found.video,
        shape=found.shape,
        numbers=numbers,
        notes=(video["prompt"], *obeyed),
    )


def _still(clips: Sequence[Mapping[str, Any]], folder: Path) -> Tensor:
    """Reference, plain, optimised and injected video of the first clip, a row each: uint8 (3, Y,
    X).
    """
    videos = [read_video(folder / video["video"]).frames for _, video in _videos(clips[0])[:4]]
    return enlarged(contact_sheet(videos, frames=7), 2)


def _videos(clip: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(kind, clip[kind]) for kind in ("reference", "plain", "optimised")] + [
        ("injected", video) for video in clip["injected"]
    ]
