"""Videos with how they were made, as `predict` and `fit` write them."""

# B batch, T frames, C = 3 colours, Y X pixel rows and columns

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from datamodules.motion_tasks import MotionTaskModule
from ditflow.files import make_folder
from ditflow.models.spec import Lora
from ditflow.models.weights.lora import parsed
from ditflow.video import write_video
from ditflow.video_provenance import FIELDS, VideoProvenance, as_named
from trainers.motion.work import Work, sources_of


class Video(NamedTuple):
    """Frames, uint8 (T, C, Y, X), and how they were made."""

    frames: Tensor
    made: VideoProvenance

    def write(self, file: Path) -> None:
        """Write the file, which appears once it is whole. Its folder is made."""
        make_folder(file.parent)
        write_video(file, self.frames, self.made.fps, made=self.made)


def check_videos(fps: float, *, wanted: bool) -> None:
    """Raise ValueError for frames per second that cannot be, and where there is nothing to make."""
    if not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps:g}, but it must be a finite number above 0.")
    if not wanted:
        raise ValueError(
            "without a signal there is no motion to keep, only videos to make: add "
            "--model.finish true."
        )


def named_in(module: Any, data: MotionTaskModule) -> dict[str, Any]:
    """What the videos of a MotionOptimization say by the names that the user gave."""
    given, loras = module.loaded_as["lora"], module.backbone.spec.loras
    files = [given] if isinstance(given, str) else given
    told = [_named(*one) for one in zip(files, loras, strict=True)]
    return {"bank": data.path, "loras": told, "fps": module.fps}


def finished(work: Work, videos: Tensor, **named: Any) -> Iterator[tuple[str, Video]]:
    """The videos, uint8 (B, T, C, Y, X), of a batch that was denoised to its end, by clip.

    `named` are further fields of their provenance.
    """
    batch, told = work.batch, work.recipe.provenance
    common = {name: value for name, value in told.items() if name in FIELDS}
    how = {name: value for name, value in told.items() if name not in FIELDS}
    keeps = work.recipe.guidance.signal is not None
    sources = zip(batch.leg.names, batch.tasks, sources_of(batch), videos, strict=True)
    for name, task, source, frames in sources:
        fields = {field: getattr(source, field) for field in asdict(source) if field in FIELDS}
        fields |= {"entry": name if keeps else "", "image": Path(task.image).name}
        fields |= {"command": "fit", "size": astuple(batch.size), "optimised": how}
        yield name, Video(frames, VideoProvenance(**common | fields | named))


def _named(given: str, lora: Lora) -> dict[str, Any]:
    """A LoRA as JSON values, by the file of PATH or PATH:SCALE."""
    expert, path, _ = parsed(given)
    file = as_named(str(path))
    return asdict(lora) | {"file": f"{expert}={file}" if expert else file}
