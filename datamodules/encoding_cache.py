"""Reference latents and prompt embeddings: made once, kept on disk by content hash, so that the VAE
and the text encoder can leave before optimising.

A file's name is the hash of all that its content depends on: the clip's bytes, the frames taken and
their size, the encoders and their dtype.
"""

# F latent frames, C channels, Hl Wl latent rows and columns, B batch, L text tokens, E channels of
# the text encoder

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from datamodules.manifest import MotionTask
from ditflow.core.sizes import VideoSize
from ditflow.files import atomic_file, make_folder
from ditflow.models import Model
from ditflow.resources import shipped
from ditflow.video import (
    READER,
    Clip,
    TooShortError,
    VideoError,
    read_video,
    video_length,
    video_sha256,
)

Notes = dict[str, str]
T = TypeVar("T")


@dataclass(frozen=True)
class EncodedClip:
    """Scaled latents (F, C, Hl, Wl) float32, the sha256 of the file that they come from, and what
    its frames lay in.
    """

    latents: Tensor
    sha256: str
    container: str


class EncodingCache:
    """The encoded clips and prompts of one backbone at one video size, kept in one folder.

    With `auto`, a clip that is shorter than that gives as many frames as it has and the backbone
    takes. Raises ValueError for a size that cannot be.
    """

    def __init__(
        self, folder: str | Path, backbone: Model, size: VideoSize, *, auto: bool = False
    ) -> None:
        backbone.spec.compression.check_motion(size)
        self.folder, self.backbone, self.size, self.auto = Path(folder), backbone, size, auto
        self._frames: dict[str, int] = {}  # of each clip, by what they depend on
        self._seen: dict[
            str, tuple[list[list[Any]], str]
        ] = {}  # of each clip's files, and the sha256 that they had then
        self._encoders = [
            backbone.spec.name,
            backbone.spec.fingerprint,
            str(backbone.dtype),
            _files_of(backbone.spec.name),
        ]

    def sha256(self, task: MotionTask) -> str:
        """Of the clip's bytes, which are read again only where they may have changed. Raises
        VideoError for a clip that is not there.
        """
        stamps = _stamps(Path(task.video))
        if not stamps or self._seen.get(task.video, ([], ""))[0] != stamps:
            self._seen[task.video] = stamps, video_sha256(task.video)
        return self._seen[task.video][1]

    def hash_of(self, task: MotionTask) -> str:
        """Of the clip's bytes and the frames that the task takes from it."""
        return _hash(
            [READER, self.sha256(task), task.start, task.stride, task.fps, str(self.size_of(task))]
        )

    def size_of(self, task: MotionTask) -> VideoSize:
        """The size at which a clip is taken. Raises VideoError for a clip that cannot be read or is
        too short.
        """
        if not self.auto:
            return self.size
        key = _hash([self.sha256(task), task.start, task.stride, task.fps])
        if key not in self._frames:
            self._frames[key] = self._longest(task)
        return replace(self.size, frames=self._frames[key])

    def has(self, task: MotionTask) -> bool:
        """Whether the clip is encoded already, so that it need not be read. Raises VideoError for a
        clip that is not there.
        """
        return self._file("clip", self.hash_of(task)).exists()

    def read(self, task: MotionTask) -> Clip:
        """The frames that are taken from a clip. Raises VideoError for a clip that cannot be read
        or is too short.
        """
        size = self.size_of(task)
        where: Any = {"start": task.start, "stride": task.stride, "fps": task.fps}
        try:
            return read_video(
                task.video, frames=size.frames, size=(size.height, size.width), **where
            )
        except TooShortError as error:
            raise VideoError(f"{error.words} {self._advice(error.fit)}") from error

    def clip(self, task: MotionTask) -> EncodedClip:
        """Raises VideoError for a clip that cannot be read or is too short."""
        latents, notes = self._kept("clip", self.hash_of(task), partial(self._encode, task))
        return EncodedClip(latents, self.sha256(task), notes["container"])

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Prompt embeddings (B, L, E), made one by one, so that none depends on its neighbours."""
        return torch.stack(
            [
                self._kept("text", _hash([prompt]), partial(self._embed, prompt))[0]
                for prompt in prompts
            ]
        )

    def _encode(self, task: MotionTask) -> tuple[Tensor, Notes]:
        clip = self.read(task)
        return self.backbone.encode(clip.frames[None])[0], {"container": clip.container}

    def _embed(self, prompt: str) -> tuple[Tensor, Notes]:
        return self.backbone.embed([prompt])[0], {}

    def _longest(self, task: MotionTask) -> int:
        """The most frames that the clip has and the backbone takes.

        Raises VideoError where it takes none so short.
        """
        frames = video_length(task.video, start=task.start, stride=task.stride, fps=task.fps)
        longest = self.backbone.spec.compression.longest(min(frames, self.size.frames))
        if longest is None:
            raise VideoError(f"{task.video} gives {frames} frames. {self._advice(frames)}")
        return longest

    def _advice(self, frames: int) -> str:
        """What to do with a clip that has so many frames, but not as many as asked for."""
        compression = self.backbone.spec.compression
        if (fitting := compression.longest(frames)) is None:
            least = compression.decoded_frames(2)
            return f"This backbone takes no clip of fewer than {least} frames."
        return f"Use --data.frames {fitting}, or auto."

    def _file(self, kind: str, content: str) -> Path:
        return self.folder / f"{kind}-{_hash([content, *self._encoders])}.safetensors"

    def _kept(
        self, kind: str, content: str, make: Callable[[], tuple[Tensor, Notes]]
    ) -> tuple[Tensor, Notes]:
        file = self._file(kind, content)
        with suppress(FileNotFoundError, SafetensorError), safe_open(file, "pt") as kept:
            return kept.get_tensor(kind), kept.metadata() or {}
        made, notes = self._with_room(make)
        tensor = made.cpu().contiguous()
        make_folder(self.folder)
        with atomic_file(file) as stream:
            stream.write(save({kind: tensor}, notes or None))
        return tensor, notes

    def _with_room(self, make: Callable[[], T]) -> T:
        """Where the memory does not hold both encoders, the one that is not needed goes first."""
        with suppress(torch.OutOfMemoryError):
            return make()
        self.backbone.release_encoders()
        return make()


def _hash(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _stamps(path: Path) -> list[list[Any]]:
    """Tells a file, or a folder of pictures, from one that was written since, by names, sizes and
    times; empty where they cannot be told.
    """
    with suppress(OSError):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [
            [file.name, stat.st_size, stat.st_mtime_ns] for file in files for stat in [file.stat()]
        ]
    return []


def _files_of(backbone: str) -> list[list[Any]]:
    """Tells one local backbone's encoders from another's without reading gigabytes: sizes and times
    of their files. A hub id says it by itself.
    """
    folder = shipped("checkpoints", backbone) or Path(backbone)
    files = (
        file
        for part in ("vae", "text_encoder", "tokenizer")
        for file in sorted((folder / part).rglob("*"))
        if file.is_file()
    )
    return [
        [file.relative_to(folder).as_posix(), file.stat().st_size, file.stat().st_mtime_ns]
        for file in files
    ]
