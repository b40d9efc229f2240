"""The folder of a benchmark.

    run.json                                    what is compared, on which clips
    references/<clip>.mp4, .safetensors         reference clips, and the motion the backbone sees
    manifests/<method>.csv, banks/<method>/     the input of `fit` or `predict`, and the entries
    costs/<method>/<clip>--<kind>.json          what each video cost, from the process that made it
    results/<method>/<clip>--<kind>.mp4, .json  each video, and all that is known of it
    rows.csv, table.*, paired.csv               the tables

Every file is either complete or absent. So several processes may work on different methods in one
folder, and any of them may be stopped at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ditflow import __version__
from ditflow.files import expanded, make_folder, write_json

SCHEMA = 1
GROWING = ("methods", "metrics")
"""Lists of run.json that a later command may extend. All else must stay the same."""


@dataclass(frozen=True)
class Item:
    """One video: a method's, of a clip, with a kind of prompt."""

    method: str
    clip: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.clip}--{self.kind}"


class RunFolder:
    """Paths and JSON records of one benchmark."""

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path)

    def reference(self, clip: str) -> Path:
        return self.path / "references" / f"{clip}.mp4"

    def manifest(self, method: str) -> Path:
        return self.path / "manifests" / f"{method}.csv"

    def bank(self, name: str) -> Path:
        return self.path / "banks" / name

    def results(self, method: str) -> Path:
        return self.path / "results" / method

    def costs(self, method: str) -> Path:
        return self.path / "costs" / method

    def video(self, item: Item) -> Path:
        return self.results(item.method) / f"{item.name}.mp4"

    def result(self, item: Item) -> dict[str, Any] | None:
        """All that is known of a video, or None."""
        return _read(self.video(item).with_suffix(".json"))

    def cost(self, item: Item) -> dict[str, Any]:
        return _read(self.costs(item.method) / f"{item.name}.json") or {}

    def write_result(self, item: Item, result: Mapping[str, Any]) -> None:
        make_folder(self.results(item.method))
        write_json(self.video(item).with_suffix(".json"), result)

    def all_results(self) -> Iterator[dict[str, Any]]:
        """Results of every method, also of other processes, in the order of the run's methods,
        clips and kinds.
        """
        run = _read(self.path / "run.json") or {"methods": [], "clips": [], "prompt_kinds": []}
        items = (
            Item(row["name"], clip, kind)
            for row in run["methods"]
            for clip in run["clips"]
            for kind in run["prompt_kinds"]
        )
        return (result for item in items if (result := self.result(item)) is not None)

    def claim(self, run: dict[str, Any]) -> dict[str, Any]:
        """Begin a run, or go on with the one in this folder. Returns what run.json then says.

        Methods and metrics are added to those of the run. Raises ValueError where the folder holds
        another run, or anything else.
        """
        found = _read(self.path / "run.json")
        if (
            found is None
            and self.path.is_dir()
            and any(not file.name.startswith(".") for file in self.path.iterdir())
        ):
            raise ValueError(
                f"{self.path} is no folder of a benchmark, and not empty. "
                "Name another folder by --out."
            )
        stamp = {
            "schema": SCHEMA,
            "ditflow": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        run = stamp | json.loads(json.dumps(run))
        if found is not None:
            settled = {key: value for key, value in run.items() if key not in (*stamp, *GROWING)}
            if other := list(_differences(found, settled)):
                raise ValueError(
                    f"{self.path} holds a benchmark with {'; '.join(other)}. "
                    "Give the same options, or name another folder by --out."
                )
            run |= {"date": found["date"]} | {key: _united(found[key], run[key]) for key in GROWING}
        make_folder(self.path)
        if run != found:
            # first, so that a process that starts at the same time knows what this folder is
            write_json(self.path / "run.json", run)
        for folder in ("references", "manifests", "banks", "results", "costs"):
            make_folder(self.path / folder)
        return run


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """The options that differ, as a command line names them."""
    for key in wanted:
        had, has = found.get(key), wanted[key]
        if key == "model" and isinstance(had, dict):
            names = [name for name in {**had, **has} if had.get(name) != has.get(name)]
            yield from (
                f"--model.{name} {had.get(name)!r:.120} instead of {has.get(name)!r:.120}"
                for name in names
            )
        elif had != has:
            yield f"{key} {had!r:.120} instead of {has!r:.120}"


def _united(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of both lists by name. Where both have a row, the second's is taken."""
    rows = {row["name"]: row for row in first} | {row["name"]: row for row in second}
    return list(rows.values())


def _read(file: Path) -> Any:
    """The JSON object of a file, or None where the file is missing or damaged."""
    with suppress(FileNotFoundError, ValueError):
        value = json.loads(file.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else None
    return None
