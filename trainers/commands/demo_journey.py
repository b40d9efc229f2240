"""The journey of the demo: the bank is built by `ditflow fit` and read by `ditflow predict`, as a
user would do it.

Plain videos are the backbone's own, with the same prompts and seeds but without guidance. Stopped
and started again, it goes on where it was.
"""

# T pixel frames, C channels, Y X pixel rows and columns
from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ditflow.bank import EntryMetadata, MotionBank
from ditflow.core.sizes import VideoSize
from ditflow.files import make_folder, write_json
from ditflow.models import Model, load_backbone
from ditflow.resources import shipped
from ditflow.sampling.loop import clip_generator, initial_noise, sample
from ditflow.video import write_video
from trainers.commands.demo_report import report
from trainers.commands.demo_tasks import FPS, Task, write_inputs
from trainers.motion import cores

CONSOLE = Console()


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder, or take it up again. Raises ValueError where it was made with other
    settings.
    """
    file = folder / "settings.json"
    if file.exists() and (made := json.loads(file.read_text())) != settings:
        raise ValueError(
            f"{folder} holds a demo with other settings ({made}); name another folder with --out, or remove this one."
        )
    make_folder(folder)
    write_json(file, settings)


@dataclass(frozen=True)
class Journey:
    """The five steps of the demo, all in one folder."""

    folder: Path
    backbone: str
    tasks: list[Task]

    def run(self, fit_arguments: Sequence[str]) -> None:
        CONSOLE.rule(f"1 of 5: {len(self.tasks)} held-out clips of a synthetic world")
        write_inputs(self.folder, self.tasks)
        CONSOLE.rule("2 of 5: their motion into a bank")
        self._timed(
            "optimised", [task.optimised for task in self.tasks], lambda: self._fit(fit_arguments)
        )
        CONSOLE.rule("3 of 5: new videos from the bank, with new prompts")
        self._timed("injected", self._injected, self._predict)
        CONSOLE.rule("4 of 5: plain videos, without guidance, to compare with")
        backbone = load_backbone(self.backbone)
        cores.settle(backbone)
        self._timed("plain", [task.plain for task in self.tasks], lambda: self._plain(backbone))
        CONSOLE.rule("5 of 5: how they move")
        report(self.folder, backbone, self.tasks, self._seconds(), CONSOLE)

    def _fit(self, arguments: Sequence[str]) -> None:
        data = [
            "--data.manifest",
            str(self.folder / "clips.csv"),
            "--out",
            str(self.folder / "videos/optimised"),
        ]
        shared = self._shared([task.optimised for task in self.tasks])
        self._ditflow(
            "fit", *data, "--model.finish", "true", "--model.fps", str(FPS), *shared, *arguments
        )

    def _predict(self) -> None:
        data = [
            "--data.prompts",
            str(self.folder / "prompts.csv"),
            "--out",
            str(self.folder / "videos/injected"),
        ]
        self._ditflow("predict", *data, "--model.fps", str(FPS), *self._shared(self._injected))

    @property
    def _injected(self) -> list[str]:
        return [file for task in self.tasks for file in task.injected.values()]

    def _missing(self, files: Sequence[str]) -> int:
        return sum(not (self.folder / file).exists() for file in files)

    def _shared(self, files: Sequence[str]) -> list[str]:
        """Without a GPU several processes make what is missing, each on a thread of its own."""
        if torch.cuda.is_available() or (processes := cores.processes(self._missing(files))) == 1:
            return []
        return ["--trainer.accelerator", "cpu", "--trainer.devices", str(processes)]

    def _plain(self, backbone: Model) -> None:
        bank = MotionBank(self.folder / "bank")
        missing = [task for task in self.tasks if not (self.folder / task.plain).exists()]
        for task in track(missing, "plain videos", console=CONSOLE):
            write_video(
                self.folder / task.plain,
                plain_video(backbone, bank.metadata(task.name), task.name),
                FPS,
            )

    def _ditflow(self, command: str, *arguments: str) -> None:
        config = shipped("configs", f"{self.backbone}.yaml")
        assert config is not None, "every embedded backbone ships with its configuration"
        words = [
            "ditflow",
            command,
            "--config",
            str(config),
            "--bank",
            str(self.folder / "bank"),
            *arguments,
        ]
        CONSOLE.print(
            f"$ {shlex.join(words)}", style="bold", soft_wrap=True, markup=False, highlight=False
        )
        subprocess.run([sys.executable, "-m", "trainers.cli", *words[1:]], check=True)

    def _timed(self, kind: str, files: Sequence[str], make: Callable[[], None]) -> None:
        """Make what is missing, and keep the seconds that each video took; of those made before,
        the seconds kept then stand.
        """
        missing = self._missing(files)
        if not missing:
            CONSOLE.print("all there already")
            return
        began = time.monotonic()
        make()
        write_json(
            self.folder / "seconds.json",
            self._seconds() | {kind: (time.monotonic() - began) / missing},
        )

    def _seconds(self) -> dict[str, float]:
        file = self.folder / "seconds.json"
        return json.loads(file.read_text()) if file.exists() else {}


def plain_video(backbone: Model, metadata: EntryMetadata, name: str) -> Tensor:
    """The backbone's own video, uint8 (T, C, Y, X), for the prompt, seed and schedule of an
    entry.
    """
    generators = [clip_generator(name, metadata.seed)]
    noise = initial_noise(
        backbone.spec.compression.latent_shape(VideoSize(*metadata.size)),
        generators,
        backbone.device,
    )
    text, negative = backbone.embed([metadata.prompt, metadata.negative_prompt]).split(1)
    schedule = backbone.schedule(metadata.steps, metadata.guidance_scale, metadata.guidance)
    return backbone.decode(sample(backbone, schedule, noise, text, negative, generators))[0]
