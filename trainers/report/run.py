"""The folder that `ditflow test` writes, read for the eye: what was run, and what came of it.
Nothing in it is trusted.
"""

# F latent frames, H W token rows and columns
from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainers.benchmark.folder import SCHEMA, Item, RunFolder
from trainers.benchmark.tables import COST_LABELS, SHOWN


class ReportError(ValueError):
    """A run that cannot be shown: one sentence with the fix."""


@dataclass(frozen=True)
class Measure:
    """A number that results have: how it is called and written, and which end of it is good:
    higher, lower or none.
    """

    name: str
    label: str
    better: str = "none"
    write: Callable[[float], str] = "{:.3f}".format


COSTS = tuple(Measure(name, label, "none", write) for name, (label, write) in COST_LABELS.items())


@dataclass(frozen=True)
class Result:
    """What one method made of one clip and one prompt. `numbers` hold what is known and finite,
    `problem` says what went wrong, if anything.
    """

    item: Item
    prompt: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    losses: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Run:
    """A run folder and what its `run.json` says. `methods` maps names to labels."""

    folder: RunFolder
    facts: tuple[tuple[str, str], ...]
    methods: Mapping[str, str]
    clips: tuple[str, ...]
    kinds: tuple[str, ...]
    measures: tuple[Measure, ...]
    baseline: str
    zero_shot: frozenset[str]

    def reference(self, clip: str) -> Path:
        return self._inside(self.folder.reference(clip))

    def video(self, result: Result) -> Path:
        return self._inside(self.folder.video(result.item))

    def results(self) -> Iterator[Result]:
        """Whatever is there: a result that is missing or damaged says so in its `problem`. Motion
        that was not optimised for a prompt may be missing.
        """
        for item in (
            Item(method, clip, kind)
            for clip in self.clips
            for kind in self.kinds
            for method in self.methods
        ):
            file = self._inside(self.folder.video(item)).with_suffix(".json")
            made = file.with_suffix(".mp4").is_file()
            if file.is_file() or made or item.method not in self.zero_shot:
                yield (
                    self._result(item)
                    if file.is_file()
                    else Result(
                        item, problem="made, but not measured yet" if made else "not made yet"
                    )
                )

    def _result(self, item: Item) -> Result:
        try:
            data = self.folder.result(item)
        except (OSError, RecursionError):
            data = None
        if data is None:
            return Result(
                item,
                problem=f"the result {item.name}.json is damaged: delete it, and `ditflow test` makes it again",
            )
        return _of(Result(item), data, {measure.name for measure in self.measures})

    def _inside(self, path: Path) -> Path:
        """A file of this folder. A name that leads out of it is a mistake or an attack: it must
        never end up in a page.
        """
        if "\0" in str(path) or not path.resolve().is_relative_to(self.folder.path.resolve()):
            raise ReportError(
                f"{self.folder.path} names the file {str(path)!r}, which is outside of it: correct the names in run.json."
            )
        return path


def read_run(folder: Path) -> Run:
    """Raises ReportError where there is no run, or one that this version cannot read."""
    path = folder / "run.json"
    if not folder.is_dir():
        raise ReportError(f"There is no folder {folder}: give the one that `ditflow test` wrote.")
    if not path.is_file():
        raise ReportError(
            f"{folder} holds no run.json, so it is no run: give the folder that `ditflow test` wrote."
        )
    data = _object(path)
    if data.get("schema") != SCHEMA:
        raise ReportError(
            f"{path} has schema {data.get('schema')!r}, but this version reads {SCHEMA}: use the version that wrote it, or test anew."
        )
    rows = _rows(data, "methods", path)
    methods = {_text(row, "name", path): _text(row, "label", path) for row in rows}
    metrics = sorted(
        _rows(data, "metrics", path), key=lambda row: row.get("name") not in SHOWN
    )  # panels show the first few: those of the first tables
    measures = tuple(
        Measure(_text(row, "name", path), _text(row, "label", path), str(row.get("better")))
        for row in metrics
    )
    clips, kinds = _names(data, "clips", path), _names(data, "prompt_kinds", path)
    for key, values in (("methods", methods), ("clips", clips), ("prompt_kinds", kinds)):
        if not values:
            raise ReportError(
                f"{path} names no {key.replace('_', ' ')}: there is nothing to show. Run `ditflow test` to its end first."
            )
    zero_shot = frozenset(str(row["name"]) for row in rows if row.get("zero_shot"))
    return Run(
        RunFolder(folder),
        _facts(data),
        methods,
        clips,
        kinds,
        measures,
        str(data.get("baseline", "")),
        zero_shot,
    )


def read_flow(path: Path) -> Tensor | None:
    """Displacement float32 (F-1, 2, H, W), in tokens, from each latent frame to the next; None
    where there is none. Raises ReportError for a damaged file.
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
            f"{path.name} holds a flow of shape {tuple(flow.shape)}, but a displacement has (frames, 2, rows, columns)."
        )
    return torch.nan_to_num(flow.float(), posinf=0.0, neginf=0.0)


def _of(result: Result, data: Mapping[str, Any], metrics: set[str]) -> Result:
    measured = data.get("metrics")
    given = (
        {key: value for key, value in measured.items() if key in metrics}
        if isinstance(measured, dict)
        else {}
    )
    given |= {cost.name: data.get(cost.name) for cost in COSTS}
    numbers = {key: float(value) for key, value in given.items() if _is_number(value)}
    steps = data.get("losses")
    losses = tuple(
        float(loss)
        for step in (steps if isinstance(steps, list) else [])
        if isinstance(step, list)
        for loss in step
        if _is_number(loss)
    )
    notes = [f"seed {data['seed']}"] if _is_number(data.get("seed")) else []
    notes += (
        [f"motion optimised with the {data['zero_shot_from']} prompt"]
        if data.get("zero_shot_from")
        else []
    )
    return replace(
        result,
        prompt=str(data.get("prompt") or ""),
        numbers=numbers,
        losses=losses,
        notes=tuple(notes),
        problem=str(data.get("error") or ""),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _object(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise ReportError(
            f"{path} is damaged and cannot be read as JSON: delete it and run `ditflow test` again, which makes what is missing."
        ) from error
    if not isinstance(data, dict):
        raise ReportError(
            f"{path} holds a {type(data).__name__}, but an object was wanted: delete it and run `ditflow test` again."
        )
    return data


def _rows(data: Mapping[str, Any], key: str, path: Path) -> list[Mapping[str, Any]]:
    rows = data.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ReportError(f"{path}: {key!r} must be a list of objects; run `ditflow test` again.")
    return rows


def _names(data: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    names = data.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ReportError(f"{path}: {key!r} must be a list of names; run `ditflow test` again.")
    return tuple(names)


def _text(row: Mapping[str, Any], key: str, path: Path) -> str:
    if not isinstance(row.get(key), str):
        raise ReportError(f"{path}: {row!r} has no {key!r}; run `ditflow test` again.")
    return str(row[key])


def _facts(data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What a reader must know to compare the numbers with others: who made and who measured
    them.
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
