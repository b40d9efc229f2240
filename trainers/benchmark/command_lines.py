"""The commands that make a method's videos: `ditflow fit`, `ditflow predict` for a zero-shot
method, and both for an instant one. Their manifests are written beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.benchmark import KINDS, BenchmarkClip
from ditflow.bank import BankError, MotionBank
from ditflow.core.sizes import VideoSize
from ditflow.files import make_folder, write_csv, write_json
from trainers.benchmark.folder import Item, RunFolder
from trainers.benchmark.methods import FIELD_OPTIONS, Method, options_of
from trainers.benchmark.options import Settings

Wanted = Sequence[tuple[BenchmarkClip, str]]
"""Clips, each with a kind of prompt."""

Row = tuple[Any, ...]
FIT_COLUMNS = (
    *("name", "video", "prompt", "start", "stride", "seed"),
    *("caption", "subject", "caption_subject"),
)
SCHEDULE = ("steps", "guidance_scale", "guidance")
PREDICT_COLUMNS = ("entry", "prompt", "seed", "name")


@dataclass(frozen=True)
class CommandLines:
    """Commands of one benchmark, as the words of a command line."""

    folder: RunFolder
    size: VideoSize
    settings: Settings

    def of(self, method: Method, wanted: Wanted) -> Iterator[list[str]]:
        """The commands that make all wanted videos, of which they skip those that are there. Each
        is to be run before the next is taken. None for a zero-shot method without entries.
        """
        if method.zero_shot_from is None and not method.is_instant:
            yield self._fit(method, wanted)
            return
        if method.is_instant:
            yield self._fit_fields(method, {clip.name: clip for clip, _ in wanted}.values())
            self._note_failures(method, wanted)
        if rows := list(self._injections(method, wanted)):
            yield self._predict(method, rows)
        else:
            whose = "its own bank" if method.is_instant else f"those of {method.bank}"
            print(
                f"{method.name} has no entries to inject. Make {whose} first.",
                file=sys.stderr,
                flush=True,
            )

    def _fit(self, method: Method, wanted: Wanted) -> list[str]:
        manifest = self.folder.manifest(method.name)
        write_csv(manifest, FIT_COLUMNS, [self._task(method, clip, kind) for clip, kind in wanted])
        data = {
            "cache": str(self.folder.path / "cache"),
            "batch_size": self.settings.batch_size,
            "manifest": str(manifest),
            **self._taken(),
        }
        model = {**self.settings.model, **method.model, "finish": True}
        model.pop("source", None)  # which is for fields
        options = [*options_of("data", data), *options_of("model", model)]
        return ["fit", "--config", str(method.config), *self._places(method), *options]

    def _fit_fields(self, method: Method, clips: Iterable[BenchmarkClip]) -> list[str]:
        manifest = self.folder.manifest(f"{method.name}-clips")
        rows = [
            (method.entry(clip.name, ""), self._video(clip), "", clip.start, clip.stride)
            for clip in clips
        ]
        write_csv(manifest, FIT_COLUMNS[:5], rows)
        model = _only({**self.settings.model, **method.model}, *FIELD_OPTIONS)
        data = {"manifest": str(manifest), **self._taken()}
        options = [*options_of("data", data), *options_of("model", model)]
        trainer = options_of("trainer", self.settings.trainer)
        bank = ["--bank", str(self.folder.bank(method.bank))]
        return ["fit", "--config", str(method.config), *bank, *trainer, *options]

    def _note_failures(self, method: Method, wanted: Wanted) -> None:
        """Write why clips have no field, where the costs of their videos would be."""
        failures = MotionBank(self.folder.bank(method.bank), create=True).failures()
        for clip, kind in wanted:
            if failure := failures.get(method.entry(clip.name, kind)):
                cost = (
                    self.folder.costs(method.name)
                    / f"{Item(method.name, clip.name, kind).name}.json"
                )
                make_folder(cost.parent)
                write_json(cost, {"error": failure.reason})

    def _taken(self) -> dict[str, Any]:
        """Options that say how large videos are."""
        return {"frames": self.size.frames, "size": [self.size.height, self.size.width]}

    def _video(self, clip: BenchmarkClip) -> Path:
        return clip.video or self.folder.reference(clip.name).absolute()

    def _task(self, method: Method, clip: BenchmarkClip, kind: str) -> tuple[Any, ...]:
        name = Item(method.name, clip.name, kind).name
        read = (
            name,
            self._video(clip),
            clip.prompts[kind],
            clip.start,
            clip.stride,
            self.settings.seed,
        )
        caption, subjects = clip.prompts[KINDS[0]], clip.subjects
        return (*read, caption, subjects.get(kind, ""), subjects.get(KINDS[0], ""))

    def _predict(self, method: Method, rows: Iterable[Row]) -> list[str]:
        """An optimised entry has the schedule that it was made with; a field has none."""
        write_csv(self.folder.manifest(method.name), PREDICT_COLUMNS, rows)
        names = ("backbone", "dtype", "fps", *(SCHEDULE if method.is_instant else ()))
        own = {name: value for name, value in method.model.items() if name not in FIELD_OPTIONS}
        model = _only(self.settings.model, *names) | (own if method.is_instant else {})
        data = {"prompts": str(self.folder.manifest(method.name))}
        data |= self._taken() if method.is_instant else {}
        config = ["--config", str(method.config)] if method.is_instant else []
        return [
            "predict",
            *config,
            *self._places(method),
            *options_of("data", data),
            *options_of("model", model),
        ]

    def _injections(self, method: Method, wanted: Wanted) -> list[Row]:
        """A row for each wanted video whose entry exists."""
        entries = self._entries(method)
        rows = [
            (method.entry(clip.name, kind), clip.prompts[kind], f"{clip.name}--{kind}")
            for clip, kind in wanted
        ]
        return [
            (entry, prompt, self.settings.seed, name)
            for entry, prompt, name in rows
            if entry in entries
        ]

    def _entries(self, method: Method) -> set[str]:
        try:
            return set(MotionBank(self.folder.bank(method.bank)))
        except BankError:
            return set()

    def _places(self, method: Method) -> list[str]:
        bank, out = self.folder.bank(method.bank), self.folder.results(method.name)
        return [
            *("--bank", str(bank), "--out", str(out)),
            "--trainer.callbacks+=trainers.benchmark.costs.CostWriter",
            f"--trainer.callbacks.folder={self.folder.costs(method.name)}",
            *options_of("trainer", self.settings.trainer),
        ]


def _only(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key in names}
