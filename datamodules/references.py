"""Reference latents and prompt embeddings: made once, kept on disk by content hash, so that the VAE and the text encoder can leave before optimising.

A file's name is the hash of all that its content depends on: the clip's bytes, the frames taken and their size, the encoders and their dtype.
"""

# F latent frames, C channels, Hl Wl latent rows and columns, B batch, L text tokens, E channels of the text encoder

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from datamodules.manifest import MotionTask
from ditflow.backbones import Backbone
from ditflow.files import atomic_file, make_folder
from ditflow.grid import VideoSize
from ditflow.resources import shipped
from ditflow.video import read_video, video_sha256


@dataclass(frozen=True)
class EncodedClip:
    """Scaled latents (F, C, Hl, Wl) float32, and the sha256 of the file that they come from."""

    latents: Tensor
    sha256: str


class References:
    """The encoded clips and prompts of one backbone at one video size, kept in one folder. Raises ValueError for a size that cannot be."""

    def __init__(self, folder: str | Path, backbone: Backbone, size: VideoSize) -> None:
        backbone.spec.compression.check_motion(size)
        self.folder, self.backbone, self.size = Path(folder), backbone, size
        self._seen: dict[str, tuple[list[list[Any]], str]] = {}  # of each clip's files, and the sha256 that they had then
        self._encoders = [backbone.spec.name, backbone.spec.fingerprint, str(backbone.dtype), _files_of(backbone.spec.name)]

    def sha256(self, task: MotionTask) -> str:
        """Of the clip's bytes, which are read again only where they may have changed. Raises VideoError for a clip that is not there."""
        stamps = _stamps(Path(task.video))
        if not stamps or self._seen.get(task.video, ([], ""))[0] != stamps:
            self._seen[task.video] = stamps, video_sha256(task.video)
        return self._seen[task.video][1]

    def hash_of(self, task: MotionTask) -> str:
        """Of the clip's bytes and the frames that the task takes from it."""
        return _hash([self.sha256(task), task.start, task.stride, str(self.size)])

    def clip(self, task: MotionTask) -> EncodedClip:
        """Raises VideoError for a clip that cannot be read or is too short."""
        return EncodedClip(self._kept("clip", self.hash_of(task), partial(self._encode, task)), self.sha256(task))

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Prompt embeddings (B, L, E), made one by one, so that none depends on its neighbours."""
        return torch.stack([self._kept("text", _hash([prompt]), partial(self._embed, prompt)) for prompt in prompts])

    def _encode(self, task: MotionTask) -> Tensor:
        size = (self.size.height, self.size.width)
        clip = read_video(task.video, frames=self.size.frames, start=task.start, stride=task.stride, size=size)
        return self.backbone.encode(clip.frames[None])[0]

    def _embed(self, prompt: str) -> Tensor:
        return self.backbone.embed([prompt])[0]

    def _kept(self, kind: str, content: str, make: Callable[[], Tensor]) -> Tensor:
        file = self.folder / f"{kind}-{_hash([content, *self._encoders])}.safetensors"
        with suppress(FileNotFoundError, SafetensorError):
            return load_file(file)[kind]
        tensor = self._with_room(make).cpu().contiguous()
        make_folder(self.folder)
        with atomic_file(file) as stream:
            stream.write(save({kind: tensor}))
        return tensor

    def _with_room(self, make: Callable[[], Tensor]) -> Tensor:
        """Where the memory does not hold both encoders, the one that is not needed goes first."""
        with suppress(torch.OutOfMemoryError):
            return make()
        self.backbone.release_encoders()
        return make()


def _hash(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _stamps(path: Path) -> list[list[Any]]:
    """Tells a file, or a folder of pictures, from one that was written since, by names, sizes and times; empty where they cannot be told."""
    with suppress(OSError):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [[file.name, stat.st_size, stat.st_mtime_ns] for file in files for stat in [file.stat()]]
    return []


def _files_of(backbone: str) -> list[list[Any]]:
    """Tells one local backbone's encoders from another's without reading gigabytes: sizes and times of their files. A hub id says it by itself."""
    folder = shipped("checkpoints", backbone) or Path(backbone)
    files = (file for part in ("vae", "text_encoder", "tokenizer") for file in sorted((folder / part).rglob("*")) if file.is_file())
    return [[file.relative_to(folder).as_posix(), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
