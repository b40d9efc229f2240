"""The command that makes a method's videos: `ditflow fit`, or `ditflow predict` for a zero-shot
method. Its manifest is written beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.benchmark import KINDS, BenchmarkClip
from ditflow.bank import BankError, MotionBank
from ditflow.core.sizes import VideoSize
from ditflow.files import write_csv
from trainers.benchmark.folder import Item, RunFolder
from trainers.benchmark.methods import Method, options_of
from trainers.benchmark.options import Settings

Wanted = Sequence[tuple[BenchmarkClip, str]]
"""Clips, each with a kind of prompt."""

FIT_COLUMNS = (
    *("name", "video", "prompt", "start", "stride", "seed"),
    *("caption", "subject", "caption_subject"),
)
PREDICT_COLUMNS = ("entry", "prompt", "seed", "name")


@dataclass(frozen=True)
class CommandLines:
    """Commands of one benchmark, as the words of a command line."""

    folder: RunFolder
    size: VideoSize
    settings: Settings

    def of(self, method: Method, wanted: Wanted) -> list[str]:
        """The command that makes all wanted videos, of which it skips those that are there. Empty
        for a zero-shot method without entries.
        """
        if method.zero_shot_from is not None:
            return self._predict(method, wanted)
        return self._fit(method, wanted)

    def _fit(self, method: Method, wanted: Wanted) -> list[str]:
        manifest = self.folder.manifest(method.name)
        write_csv(manifest, FIT_COLUMNS, [self._task(method, clip, kind) for clip, kind in wanted])
        data = {
            "manifest": str(manifest),
            "cache": str(self.folder.path / "cache"),
            "batch_size": self.settings.batch_size,
            "frames": self.size.frames,
            "size": [self.size.height, self.size.width],
        }
        model = {**self.settings.model, **method.model, "finish": True}
        options = [*options_of("data", data), *options_of("model", model)]
        return ["fit", "--config", str(method.config), *self._places(method), *options]

    def _task(self, method: Method, clip: BenchmarkClip, kind: str) -> tuple[Any, ...]:
        name = Item(method.name, clip.name, kind).name
        video = clip.video or self.folder.reference(clip.name).absolute()
        read = (name, video, clip.prompts[kind], clip.start, clip.stride, self.settings.seed)
        caption, subjects = clip.prompts[KINDS[0]], clip.subjects
        return (*read, caption, subjects.get(kind, ""), subjects.get(KINDS[0], ""))

    def _predict(self, method: Method, wanted: Wanted) -> list[str]:
        rows = list(self._injections(method, wanted))
        if not rows:
            print(
                f"{method.name} has no entries to inject. Make those of {method.bank} first.",
                file=sys.stderr,
                flush=True,
            )
            return []
        write_csv(self.folder.manifest(method.name), PREDICT_COLUMNS, rows)
        shared = _only(self.settings.model, "backbone", "dtype", "fps")
        prompts = options_of("data", {"prompts": str(self.folder.manifest(method.name))})
        return ["predict", *self._places(method), *prompts, *options_of("model", shared)]

    def _injections(self, method: Method, wanted: Wanted) -> list[tuple[Any, ...]]:
        """A row for each wanted video whose entry exists."""
        entries = self._entries(method)
        rows = [
            (f"{clip.name}--{method.zero_shot_from}", clip.prompts[kind], f"{clip.name}--{kind}")
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
