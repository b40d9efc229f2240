"""Reference latents, motion fields, prompt embeddings and what a model is shown of pictures: made
once, kept on disk by content hash, so that the encoders can leave before optimising.

A file's name is the hash of all that its content depends on: the clip's bytes, the frames taken and
their size, and the encoders with their dtype, or how fields are measured.
"""

# F latent frames or times, C channels, Hl Wl latent rows and columns, B batch, L text tokens,
# E channels of the text encoder

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from datamodules.frames import ClipReader, hash_of_json
from datamodules.manifest import MotionTask
from ditflow.core.picture import Picture
from ditflow.core.sizes import VideoSize
from ditflow.fields.detection import say
from ditflow.fields.field import FieldSource, MotionField
from ditflow.fields.sources import DIS, VERSION, field_and_doubts
from ditflow.files import atomic_file, make_folder
from ditflow.models import Model
from ditflow.resources import shipped
from ditflow.video import Clip

Notes = dict[str, str]
Tensors = dict[str, Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class EncodedClip:
    """Scaled latents (F, C, Hl, Wl) float32, the sha256 of the file that they come from, and what
    its frames lay in.
    """

    latents: Tensor
    sha256: str
    container: str


class EncodingCache(ClipReader):
    """The encoded clips and prompts of one backbone at one video size, kept in one folder. Clips
    are read as `ClipReader` says.
    """

    def __init__(
        self, folder: str | Path, backbone: Model, size: VideoSize, *, auto: bool = False
    ) -> None:
        super().__init__(backbone.spec.compression, size, auto=auto)
        self.folder, self.backbone = Path(folder), backbone
        self._last: tuple[str, Clip] | None = None
        self._encoders = [
            backbone.spec.name,
            backbone.spec.fingerprint,
            str(backbone.dtype),
            _files_of(backbone.spec.name),
        ]

    def has(self, task: MotionTask, kind: str = "clip") -> bool:
        """Whether the clip, or the field of it, is kept already, so that it need not be read.
        Raises VideoError for a clip that is not there.
        """
        return self._file(kind, self.hash_of(task)).exists()

    def clip(self, task: MotionTask) -> EncodedClip:
        """Raises VideoError for a clip that cannot be read or is too short."""
        kept, notes = self._kept("clip", self.hash_of(task), partial(self._encode, task))
        return EncodedClip(kept["clip"], self.sha256(task), notes["container"])

    def image(self, task: MotionTask) -> Picture | None:
        """What the model is shown of a clip's image at the size of the clip; None without an image.
        Raises VideoError for what is no picture.
        """
        if not task.image:
            return None
        content = hash_of_json([self.image_sha256(task), str(self.size_of(task))])
        return self._looked("image", content, task, lambda: self.fitted(task))

    def first(self, task: MotionTask) -> Picture | None:
        """What the model is shown of a clip's own first frame, where its video has an image."""
        if not task.image:
            return None
        return self._looked(
            "first", self.hash_of(task), task, lambda: self._read_once(task).frames[0]
        )

    def field(self, task: MotionTask) -> MotionField:
        """The motion of a clip, by optical flow. Warns as `field_of` does, also of one that is
        kept. Raises FieldError for a clip without a motion to follow.
        """
        tensors, notes = self._kept("field", self.hash_of(task), partial(self._follow, task))
        say(json.loads(notes["doubts"]), task.name)
        kept = tensors["field"]
        size, times = self.size_of(task), tuple(json.loads(notes["times"]))
        told = times, size.frames, size.width / size.height, FieldSource(DIS.name, task.name)
        return MotionField(kept[:, :2], kept[:, 2], *told)

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Prompt embeddings (B, L, E), made one by one, so that none depends on its neighbours."""
        return torch.stack(
            [
                self._kept("text", hash_of_json([prompt]), partial(self._embed, prompt))[0]["text"]
                for prompt in prompts
            ]
        )

    def _encode(self, task: MotionTask) -> tuple[Tensors, Notes]:
        clip = self._read_once(task)
        return {"clip": self.backbone.encode(clip.frames[None])[0]}, {"container": clip.container}

    def _follow(self, task: MotionTask) -> tuple[Tensors, Notes]:
        """(F, 3, H, W): displacement and confidence."""
        field, doubts = field_and_doubts(self._read_once(task).frames, clip=task.name)
        both = torch.cat([field.displacement, field.confidence[:, None]], dim=1)
        return {"field": both}, {
            "times": json.dumps(field.times),
            "doubts": json.dumps(doubts),
        }

    def _read_once(self, task: MotionTask) -> Clip:
        """The frames of a clip, which are read again only after those of another."""
        key = self.hash_of(task)
        if self._last is None or self._last[0] != key:
            self._last = key, self.read(task)
        return self._last[1]

    def _embed(self, prompt: str) -> tuple[Tensors, Notes]:
        return {"text": self.backbone.embed([prompt])[0]}, {}

    def _looked(
        self, kind: str, content: str, task: MotionTask, pixels: Callable[[], Tensor]
    ) -> Picture:
        """What the model is shown of pixels uint8 (C, Y, X), at the beginning of a clip's video."""

        def make() -> tuple[Tensors, Notes]:
            picture = self.backbone.look(pixels()[None], self.size_of(task).frames)
            assert picture is not None
            return {key: x for key, x in picture._asdict().items() if x is not None}, {}

        return Picture(**self._kept(kind, content, make)[0])

    def _file(self, kind: str, content: str) -> Path:
        made_by = [DIS.name, VERSION] if kind == "field" else self._encoders
        return self.folder / f"{kind}-{hash_of_json([content, *made_by])}.safetensors"

    def _kept(
        self, kind: str, content: str, make: Callable[[], tuple[Tensors, Notes]]
    ) -> tuple[Tensors, Notes]:
        file = self._file(kind, content)
        with suppress(FileNotFoundError, SafetensorError), safe_open(file, "pt") as kept:
            return {key: kept.get_tensor(key) for key in kept.keys()}, kept.metadata() or {}
        made, notes = self._with_room(make)
        tensors = {key: tensor.cpu().contiguous() for key, tensor in made.items()}
        make_folder(self.folder)
        with atomic_file(file) as stream:
            stream.write(save(tensors, notes or None))
        return tensors, notes

    def _with_room(self, make: Callable[[], T]) -> T:
        """Where the memory does not hold both encoders, the one that is not needed goes first."""
        with suppress(torch.OutOfMemoryError):
            return make()
        self.backbone.release_encoders()
        return make()


def _files_of(backbone: str) -> list[list[Any]]:
    """Tells one local backbone's encoders from another's without reading gigabytes: sizes and times
    of their files. A hub id says it by itself.
    """
    folder = shipped("checkpoints", backbone) or Path(backbone)
    files = (
        file
        for part in ("vae", "text_encoder", "tokenizer", "image_encoder", "image_processor")
        for file in sorted((folder / part).rglob("*"))
        if file.is_file()
    )
    return [
        [file.relative_to(folder).as_posix(), file.stat().st_size, file.stat().st_mtime_ns]
        for file in files
    ]
