"""The folder that `ditflow test` wrote, read for a report. Nothing in it is trusted."""

# F latent frames, H W token rows and columns
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainers.benchmark.compared import COST_LABELS, SHOWN
from trainers.benchmark.folder import SCHEMA, Item, RunFolder
from trainers.report.checked_json import ReportError, is_number, names, read_object, rows, text


@dataclass(frozen=True)
class Measure:
    """A number that results have. `better` is the direction of improvement: higher, lower or
    none; `write` formats a value.
    """

    name: str
    label: str
    better: str = "none"
    write: Callable[[float], str] = "{:.3f}".format


COSTS = tuple(Measure(name, label, "none", write) for name, (label, write) in COST_LABELS.items())


@dataclass(frozen=True)
class Result:
    """The result of one method for one clip and prompt. `numbers` are those that are known and
    finite. `problem` says what went wrong, or is empty.
    """

    item: Item
    prompt: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    losses: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Run:
    """A run folder and the content of its `run.json`. `methods` maps names to labels, `expected`
    names to the kinds of prompts that the method makes videos of.
    """

    folder: RunFolder
    facts: tuple[tuple[str, str], ...]
    methods: Mapping[str, str]
    clips: tuple[str, ...]
    kinds: tuple[str, ...]
    measures: tuple[Measure, ...]
    baseline: str
    zero_shot: frozenset[str]
    expected: Mapping[str, frozenset[str]]

    def reference(self, clip: str) -> Path:
        return self._inside(self.folder.reference(clip))

    def video(self, result: Result) -> Path:
        return self._inside(self.folder.video(result.item))

    def results(self) -> Iterator[Result]:
        """All results that exist or are expected. A missing or damaged one says so in `problem`."""
        for item in (
            Item(method, clip, kind)
            for clip in self.clips
            for kind in self.kinds
            for method in self.methods
        ):
            file = self._inside(self.folder.video(item)).with_suffix(".json")
            made = file.with_suffix(".mp4").is_file()
            if file.is_file():
                yield self._result(item)
            elif made or item.kind in self.expected[item.method]:
                yield Result(item, problem="made, but not measured yet" if made else "not made yet")

    def _result(self, item: Item) -> Result:
        try:
            data = self.folder.result(item)
        except (OSError, RecursionError):
            data = None
        if data is None:
            return Result(
                item,
                problem=f"the result {item.name}.json is damaged: "
                "delete it, and `ditflow test` makes it again",
            )
        return _of(Result(item), data, {measure.name for measure in self.measures})

    def _inside(self, path: Path) -> Path:
        """The path, if it is inside this folder. Any other file must never get into a page."""
        if "\0" in str(path) or not path.resolve().is_relative_to(self.folder.path.resolve()):
            raise ReportError(
                f"{self.folder.path} names the file {str(path)!r}, which is outside of it: "
                "correct the names in run.json."
            )
        return path


def read_run(folder: Path) -> Run:
    """Raises ReportError where there is no run, or one that this version cannot read."""
    path = folder / "run.json"
    if not folder.is_dir():
        raise ReportError(f"There is no folder {folder}: give the one that `ditflow test` wrote.")
    if not path.is_file():
        raise ReportError(
            f"{folder} holds no run.json, so it is no run: "
            "give the folder that `ditflow test` wrote."
        )
    data = read_object(path)
    if data.get("schema") != SCHEMA:
        raise ReportError(
            f"{path} has schema {data.get('schema')!r}, but this version reads {SCHEMA}: "
            "use the version that wrote it, or test anew."
        )
    methods = {text(row, "name", path): row for row in rows(data, "methods", path)}
    labels = {name: text(row, "label", path) for name, row in methods.items()}
    clips, kinds = names(data, "clips", path), names(data, "prompt_kinds", path)
    for key, values in (("methods", methods), ("clips", clips), ("prompt kinds", kinds)):
        if not values:
            raise ReportError(
                f"{path} names no {key}: there is nothing to show. "
                "Run `ditflow test` to its end first."
            )
    return Run(
        RunFolder(folder),
        _facts(data),
        labels,
        clips,
        kinds,
        _measures(data, path),
        str(data.get("baseline", "")),
        frozenset(name for name, row in methods.items() if row.get("zero_shot")),
        {name: _expected(row, kinds, path) for name, row in methods.items()},
    )


def read_flow(path: Path) -> Tensor | None:
    """Displacement float32 (F-1, 2, H, W), in tokens, from each latent frame to the next; None
    where there is no file. Raises ReportError for a damaged one.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            flow = file.get_tensor("flow")
    except (SafetensorError, OSError) as error:
        raise ReportError(f"{path.name} cannot be read: {error}.") from error
    if flow.ndim != 4 or flow.shape[1] != 2 or not flow.numel() or not flow.is_floating_point():
        raise ReportError(
            f"{path.name} holds a flow of shape {tuple(flow.shape)}, "
            "but a displacement has (frames, 2, rows, columns)."
        )
    return torch.nan_to_num(flow.float(), posinf=0.0, neginf=0.0)


def _measures(data: Mapping[str, Any], path: Path) -> tuple[Measure, ...]:
    """Metrics of the first tables come first, because a panel shows only the first few."""
    metrics = sorted(rows(data, "metrics", path), key=lambda row: row.get("name") not in SHOWN)
    return tuple(
        Measure(text(row, "name", path), text(row, "label", path), str(row.get("better")))
        for row in metrics
    )


def _expected(row: Mapping[str, Any], kinds: tuple[str, ...], path: Path) -> frozenset[str]:
    """Runs of earlier versions do not name the kinds. Of a zero-shot method nothing is expected
    then, since one of its kinds is left out.
    """
    if "kinds" in row:
        return frozenset(names(row, "kinds", path))
    return frozenset() if row.get("zero_shot") else frozenset(kinds)


def _of(result: Result, data: Mapping[str, Any], metrics: set[str]) -> Result:
    measured = data.get("metrics")
    given = measured if isinstance(measured, dict) else {}
    given = {key: value for key, value in given.items() if key in metrics}
    given |= {cost.name: data.get(cost.name) for cost in COSTS}
    steps = data.get("losses")
    losses = (
        loss
        for step in (steps if isinstance(steps, list) else [])
        for loss in (step if isinstance(step, list) else [])
        if is_number(loss)
    )
    notes = [f"seed {data['seed']}"] if is_number(data.get("seed")) else []
    if data.get("zero_shot_from"):
        notes.append(f"motion optimised with the {data['zero_shot_from']} prompt")
    return replace(
        result,
        prompt=str(data.get("prompt") or ""),
        numbers={key: float(value) for key, value in given.items() if is_number(value)},
        losses=tuple(map(float, losses)),
        notes=tuple(notes),
        problem=str(data.get("error") or ""),
    )


def _facts(data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What a reader must know to compare the numbers with others: the backbone, the sizes, and the
    instruments.
    """
    sizes = {
        key: "×".join(map(str, value))
        for key in ("size", "grid")
        if isinstance(value := data.get(key), list)
    }
    labels = {"size": "frames × height × width", "grid": "token grid", "clip_model": "CLIP"}
    keys = ("backbone", "size", "grid", "tracker", "clip_model", "ditflow", "date")
    return tuple(
        (labels.get(key, key), str(sizes.get(key, data[key]))) for key in keys if data.get(key)
    )
