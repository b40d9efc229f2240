"""The benchmark: every method's videos of every clip and prompt, made where they are missing,
measured, and put into tables.

Videos are made by `ditflow fit` and `ditflow predict`, each method in a process of its own: so that
its peak memory is its own, and so that it may run on several devices. What is finished stays
finished: stopped and started again, a benchmark goes on from the last video, or the last step of
one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.benchmark import KINDS, BenchmarkClip, BenchmarkData
from ditflow.bank import BankError, MotionBank
from ditflow.core.sizes import VideoSize
from ditflow.files import StorageError, folder_sha256, write_csv
from ditflow.metrics import METRICS, Metric, make_metrics
from ditflow.models import Model, ModelSpec, sketch_backbone
from ditflow.resources import shipped
from trainers.benchmark.folder import Item, RunFolder
from trainers.benchmark.measures import Measurer
from trainers.benchmark.methods import Method, options_of
from trainers.benchmark.options import check_options
from trainers.benchmark.tables import write_tables

FPS = 8.0
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)


@dataclass(frozen=True)
class MetricChoices:
    """What is measured, and with which instruments.

    Args:
        names: Metrics; by default all of them.
        tracker: Follows points through videos: lucas-kanade, cotracker3 where it is installed, or
            exact where the references' tracks are known.
        clip: Judges pictures and prompts: tiny-clip, a folder in transformers format, or a hub id.
        flows: Write how the backbone sees the motion of each video, which the report shows.
    """

    names: list[str] = field(default_factory=lambda: list(METRICS))
    tracker: str = "lucas-kanade"
    clip: str = "tiny-clip"
    flows: bool = True


@dataclass(frozen=True)
class Benchmark:
    """One run of some methods on some clips. `model` are options of `fit` that all methods share,
    `trainer` those of its Trainer.
    """

    folder: RunFolder
    data: BenchmarkData
    methods: Sequence[Method]
    baseline: str
    model: Mapping[str, Any]
    trainer: Mapping[str, Any]
    metrics: MetricChoices
    batch_size: int
    seed: int
    kinds: Sequence[str] = KINDS

    def run(self, chosen: Sequence[Method]) -> int:
        """Make and measure what is missing of the chosen methods, then the tables of all. Returns 1
        where videos failed or are left, else 0.
        """
        clips, measurer = (
            self.data.clips(),
            self._measurer,
        )  # all of these refuse what cannot be, before any work
        check_options(self.methods, self.model, self.trainer, self._sketch)
        run = self.folder.claim(self._described(clips))
        unreadable = self._references(clips)
        if len(unreadable) == len(clips):
            raise ValueError("no reference clip can be read: see above.")
        readable = [clip for clip in clips if clip.name not in unreadable]
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
        return sketch_backbone(str(self.model["backbone"]))

    @property
    def spec(self) -> ModelSpec:
        return self._sketch.spec

    @cached_property
    def size(self) -> VideoSize:
        size = self.data.size_on(self.spec.size)
        self.spec.compression.latent_shape(size)
        self.spec.compression.check_motion(size)
        return size

    @cached_property
    def _measurer(self) -> Measurer:
        backbone = str(self.model["backbone"]) if self.metrics.flows else None
        return Measurer(
            self.folder,
            self.data,
            self.size,
            self._instruments,
            backbone,
            self.model.get("dtype"),
            self.seed,
        )

    @cached_property
    def _instruments(self) -> dict[str, Metric]:
        """The chosen metrics; those that compare the videos of an entry only where it has
        several.
        """
        made = make_metrics(
            self.metrics.names, tracker=self.metrics.tracker, clip=self.metrics.clip
        )
        return {
            name: metric
            for name, metric in made.items()
            if len(self.kinds) > 1 or not metric.of_entries
        }

    def _described(self, clips: Sequence[BenchmarkClip]) -> dict[str, Any]:
        grid = self.spec.compression.grid(self.size)
        return {
            "backbone": self.spec.name,
            "fingerprint": self.spec.fingerprint,
            "weights": {name: _weights(name) for name in (self.spec.name, self.metrics.clip)},
            "size": [self.size.frames, self.size.height, self.size.width],
            "grid": [grid.frames, grid.height, grid.width],
            "model": dict(self.model),
            "seed": self.seed,
            "tracker": self.metrics.tracker,
            "clip_model": self.metrics.clip,
            "baseline": self.baseline,
            "clips": [clip.name for clip in clips],
            "prompt_kinds": list(self.kinds),
            "methods": [method.described(self.spec) for method in self.methods],
            "metrics": [
                {
                    "name": name,
                    "label": metric.label,
                    "better": metric.better,
                    "instrument": metric.instrument,
                }
                for name, metric in self._instruments.items()
            ],
        }

    def _references(self, clips: Sequence[BenchmarkClip]) -> dict[str, str]:
        """Write what is missing of the references. Returns why clips cannot be read, by name: these
        have failed for every method.
        """
        unreadable = {}
        for clip in clips:
            try:
                self._measurer.write_reference(clip, float(self.model.get("fps", FPS)))
            except StorageError:
                raise
            except (ValueError, OSError) as error:
                print(f"clip {clip.name!r} is left out: {error}", file=sys.stderr, flush=True)
                unreadable[clip.name] = str(error)
        return unreadable

    def _make(self, method: Method, clips: Sequence[BenchmarkClip]) -> None:
        """The method's missing videos. What cannot be made is told by the process that tried."""
        wanted = [(clip, kind) for clip in clips for kind in method.kinds(self.kinds)]
        missing = [
            place
            for place in wanted
            if not self.folder.video(Item(method.name, place[0].name, place[1])).exists()
        ]
        print(
            f"{method.name}: {len(wanted) - len(missing)} of {len(wanted)} videos are there",
            flush=True,
        )
        if not missing:
            return
        words = (
            self._predict(method, wanted)
            if method.zero_shot_from is not None
            else self._fit(method, wanted)
        )
        if words:
            self._measurer.release()
            run_ditflow(words)

    def _fit(self, method: Method, wanted: Sequence[tuple[BenchmarkClip, str]]) -> list[str]:
        columns = (
            "name",
            "video",
            "prompt",
            "start",
            "stride",
            "seed",
            "caption",
            "subject",
            "caption_subject",
        )
        write_csv(
            self.folder.manifest(method.name),
            columns,
            [self._task(method, clip, kind) for clip, kind in wanted],
        )
        data = {
            "manifest": str(self.folder.manifest(method.name)),
            "cache": str(self.folder.path / "cache"),
            "batch_size": self.batch_size,
        }
        data |= {"frames": self.size.frames, "size": [self.size.height, self.size.width]}
        options = [
            *options_of("data", data),
            *options_of("model", {**self.model, **method.model, "finish": True}),
        ]
        return ["fit", "--config", str(method.config), *self._places(method), *options]

    def _task(self, method: Method, clip: BenchmarkClip, kind: str) -> tuple[Any, ...]:
        video = (
            clip.video if clip.video is not None else self.folder.reference(clip.name).absolute()
        )
        words = clip.prompts[KINDS[0]], clip.subjects.get(kind, ""), clip.subjects.get(KINDS[0], "")
        return (
            Item(method.name, clip.name, kind).name,
            video,
            clip.prompts[kind],
            clip.start,
            clip.stride,
            self.seed,
            *words,
        )

    def _predict(self, method: Method, wanted: Sequence[tuple[BenchmarkClip, str]]) -> list[str]:
        """Nothing where there are no entries yet."""
        entries = self._entries(method)
        rows = [
            (
                f"{clip.name}--{method.zero_shot_from}",
                clip.prompts[kind],
                self.seed,
                f"{clip.name}--{kind}",
            )
            for clip, kind in wanted
        ]
        if not (rows := [row for row in rows if row[0] in entries]):
            print(
                f"{method.name} has no entries to inject: {method.bank} makes them, so it must come first.",
                file=sys.stderr,
                flush=True,
            )
            return []
        write_csv(self.folder.manifest(method.name), ("entry", "prompt", "seed", "name"), rows)
        shared = {
            key: value for key, value in self.model.items() if key in ("backbone", "dtype", "fps")
        }
        options = [
            *options_of("data", {"prompts": str(self.folder.manifest(method.name))}),
            *options_of("model", shared),
        ]
        return ["predict", *self._places(method), *options]

    def _entries(self, method: Method) -> set[str]:
        try:
            return set(MotionBank(self.folder.bank(method.bank)))
        except BankError:
            return set()

    def _places(self, method: Method) -> list[str]:
        writer = [
            "--trainer.callbacks+=trainers.benchmark.costs.CostWriter",
            f"--trainer.callbacks.folder={self.folder.costs(method.name)}",
        ]
        places = [
            "--bank",
            str(self.folder.bank(method.bank)),
            "--out",
            str(self.folder.results(method.name)),
        ]
        return [*places, *writer, *options_of("trainer", self.trainer)]

    def _conclude(self, chosen: Sequence[Method], clips: Sequence[BenchmarkClip]) -> int:
        items = [
            Item(method.name, clip.name, kind)
            for method in chosen
            for clip in clips
            for kind in method.kinds(self.kinds)
        ]
        results = {item: self.folder.result(item) for item in items}
        made = [
            item
            for item, result in results.items()
            if result is not None and result["video"] is not None
        ]
        print(
            f"{len(made)} of {len(items)} videos made and measured: {self.folder.path / 'table.md'}"
        )
        if left := [f"{item.method}/{item.name}" for item in items if item not in made]:
            print(
                f"{len(left)} failed or left: {', '.join(left)}. The same command tries them again.",
                file=sys.stderr,
            )
        for item in made:
            if reason := (results[item] or {})["error"]:
                print(f"{item.method}/{item.name} lacks a number: {reason}", file=sys.stderr)
        return 1 if left else 0


def run_ditflow(words: Sequence[str]) -> int:
    """`ditflow` with these words, in a process of its own that is stopped with this one. Returns
    its exit code, which tells of clips that failed, or that the system killed it; where it was told
    to stop, this process stops too."""
    process = subprocess.Popen([sys.executable, "-m", "trainers.cli", *words])
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the terminal has told both
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if code in STOPPED:
        print("ditflow: stopped. The same command goes on from here.", file=sys.stderr)
        raise SystemExit(code if code > 0 else 128 - code)
    if code < 0:
        print(
            f"ditflow: {words[0]} was killed by signal {-code}; for want of memory, perhaps. What it had finished stays.",
            file=sys.stderr,
        )
    return code


def _weights(name: str) -> str | None:
    """What tells the weights under a name from others: of a folder here; a hub id stands for
    itself.
    """
    folder = shipped("checkpoints", name) or Path(name)
    return folder_sha256(folder, "*.safetensors") if folder.is_dir() else None
