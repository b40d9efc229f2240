"""A benchmark run: it makes the missing videos of every method, clip and prompt, measures them, and
writes the tables.

Each method runs in a process of its own. Finished videos are kept: a benchmark that was stopped
goes on from the last video, or from the last step of one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.benchmark import BenchmarkClip, BenchmarkData
from ditflow.core.sizes import VideoSize
from ditflow.files import StorageError, folder_sha256
from ditflow.metrics import Metric
from ditflow.models import Model, ModelSpec, sketch_backbone
from ditflow.resources import shipped
from trainers.benchmark.command_lines import CommandLines
from trainers.benchmark.folder import Item, RunFolder
from trainers.benchmark.measures import Measurer
from trainers.benchmark.methods import Method
from trainers.benchmark.options import Settings, check_options
from trainers.benchmark.process import run_ditflow
from trainers.benchmark.tables import write_tables

FPS = 8.0


@dataclass(frozen=True)
class Benchmark:
    """Methods and the clips that they are compared on. `kinds` are the prompts of each clip."""

    folder: RunFolder
    data: BenchmarkData
    methods: Sequence[Method]
    baseline: str
    settings: Settings
    kinds: Sequence[str]

    def run(self, chosen: Sequence[Method]) -> int:
        """Make and measure the missing videos of the chosen methods, and write the tables of all
        methods. Returns 1 where a video failed or is missing, else 0.

        Raises ValueError for options, clips or a folder that cannot be used, before any work.
        """
        clips, measurer = self.data.clips(), self._measurer
        check_options(self.methods, self.settings, self._sketch)
        run = self.folder.claim(self._described(clips))
        unreadable = self._write_references(clips)
        readable = [clip for clip in clips if clip.name not in unreadable]
        if not readable:
            raise ValueError("no reference clip can be read: see above.")
        for method in chosen:
            self._make(method, readable)
            measurer.measure(method, readable, self.kinds)
            for clip in clips:
                if clip.name in unreadable:
                    measurer.leave_out(method, clip, self.kinds, unreadable[clip.name])
        write_tables(self.folder, run)
        return self._conclude(chosen, clips)

    @cached_property
    def _sketch(self) -> Model:
        return sketch_backbone(str(self.settings.model["backbone"]))

    @property
    def spec(self) -> ModelSpec:
        return self._sketch.spec

    @cached_property
    def size(self) -> VideoSize:
        """The size of all videos. Raises ValueError where the backbone cannot take it."""
        size = self.data.size_on(self.spec.size)
        self.spec.compression.latent_shape(size)
        self.spec.compression.check_motion(size)
        return size

    @cached_property
    def _instruments(self) -> Mapping[str, Metric]:
        return self.settings.metrics.instruments(self.data, self.kinds)

    @cached_property
    def _measurer(self) -> Measurer:
        model = self.settings.model
        backbone = str(model["backbone"]) if self.settings.metrics.flows else None
        seen = (backbone, model.get("dtype"))
        return Measurer(
            self.folder, self.data, self.size, self._instruments, *seen, self.settings.seed
        )

    def _described(self, clips: Sequence[BenchmarkClip]) -> dict[str, Any]:
        """What run.json says: everything that numbers depend on."""
        size, grid = self.size, self.spec.compression.grid(self.size)
        choices = self.settings.metrics
        return {
            "backbone": self.spec.name,
            "fingerprint": self.spec.fingerprint,
            "weights": {name: _weights(name) for name in (self.spec.name, choices.clip)},
            "size": [size.frames, size.height, size.width],
            "grid": [grid.frames, grid.height, grid.width],
            "model": dict(self.settings.model),
            "seed": self.settings.seed,
            "tracker": choices.tracker,
            "clip_model": choices.clip,
            "baseline": self.baseline,
            "clips": [clip.name for clip in clips],
            "prompt_kinds": list(self.kinds),
            "methods": [method.described(self.spec, self.kinds) for method in self.methods],
            "metrics": [_described(name, metric) for name, metric in self._instruments.items()],
        }

    def _write_references(self, clips: Sequence[BenchmarkClip]) -> dict[str, str]:
        """Write the references that are missing. Returns why clips cannot be read, by name: every
        method lacks these.
        """
        unreadable = {}
        for clip in clips:
            try:
                self._measurer.write_reference(clip, float(self.settings.model.get("fps", FPS)))
            except StorageError:
                raise
            except (ValueError, OSError) as error:
                print(f"clip {clip.name!r} is left out: {error}", file=sys.stderr, flush=True)
                unreadable[clip.name] = str(error)
        return unreadable

    def _make(self, method: Method, clips: Sequence[BenchmarkClip]) -> None:
        """Make the missing videos of a method. Its process says what cannot be made."""
        wanted = [(clip, kind) for clip in clips for kind in method.kinds(self.kinds)]
        items = [Item(method.name, clip.name, kind) for clip, kind in wanted]
        made = sum(self.folder.video(item).exists() for item in items)
        print(f"{method.name}: {made} of {len(wanted)} videos are there", flush=True)
        if made == len(wanted):
            return
        for words in CommandLines(self.folder, self.size, self.settings).of(method, wanted):
            self._measurer.release()
            run_ditflow(words)

    def _conclude(self, chosen: Sequence[Method], clips: Sequence[BenchmarkClip]) -> int:
        items = [
            Item(method.name, clip.name, kind)
            for method in chosen
            for clip in clips
            for kind in method.kinds(self.kinds)
        ]
        results = {item: self.folder.result(item) or {} for item in items}
        made = [item for item, result in results.items() if result.get("video") is not None]
        table = self.folder.path / "table.md"
        print(f"{len(made)} of {len(items)} videos made and measured: {table}")
        if left := [f"{item.method}/{item.name}" for item in items if item not in made]:
            print(
                f"{len(left)} failed or missing: {', '.join(left)}. "
                "The same command tries them again.",
                file=sys.stderr,
            )
        for item in made:
            if reason := results[item]["error"]:
                print(f"{item.method}/{item.name} lacks a number: {reason}", file=sys.stderr)
        return 1 if left else 0


def _described(name: str, metric: Metric) -> dict[str, str]:
    about = {"label": metric.label, "better": metric.better, "instrument": metric.instrument}
    return {"name": name, **about}


def _weights(name: str) -> str | None:
    """A hash of the weights in a local or shipped folder; None for a hub id, whose name tells."""
    folder = shipped("checkpoints", name) or Path(name)
    return folder_sha256(folder, "*.safetensors") if folder.is_dir() else None
