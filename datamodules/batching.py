"""MotionBatch: clips that are optimised together, and how a batch is made of the encoding cache."""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns, L text tokens, E channels of
# the text encoder

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from datamodules.encoding_cache import EncodingCache
from datamodules.faults import Fail, reported
from datamodules.manifest import MotionTask
from datamodules.queue.work_queue import Leg
from ditflow.core.picture import Picture
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.sources import look_for_cuts
from ditflow.motion import Words
from ditflow.motion.base import MotionSignal
from ditflow.sampling.reference import reference_prompt, words_of


@dataclass(frozen=True)
class MotionBatch:
    """Clips that are optimised together, each by itself.

    Attributes:
        settings: Hash of the clips and of how they are optimised.
        sha256, containers: Of the clips' files, and the containers of their frames.
        latents: (B, F, C, Hl, Wl) float32, of the reference clips.
        text, negative: Embeddings of the prompts and the negative prompts.
        seen_with: Embeddings of the prompts that the signal looks at the references with.
        words: Places of words in captions and prompts, for a signal that reads them.
        fields: The clips' motion, None where it cannot be followed and the batch does not begin
            with it.
        image_sha256: Of the pictures that the videos begin with, "" for none.
        picture, first: What the model is shown of these, and of the clips' own first frames.
    """

    leg: Leg
    tasks: tuple[MotionTask, ...]
    settings: str
    size: VideoSize
    sha256: tuple[str, ...]
    containers: tuple[str, ...]
    latents: Tensor  # (B, F, C, Hl, Wl)
    text: Tensor  # (B, L, E)
    negative: Tensor  # (B, L, E)
    seen_with: Tensor  # (B, L, E)
    words: Words | None
    fields: tuple[MotionField | None, ...] = ()
    image_sha256: tuple[str, ...] = ()
    picture: Picture | None = None
    first: Picture | None = None

    def to(self, device: torch.device) -> MotionBatch:
        return replace(
            self,
            latents=self.latents.to(device),
            text=self.text.to(device),
            negative=self.negative.to(device),
            seen_with=self.seen_with.to(device),
            words=None if self.words is None else Words(*(x.to(device) for x in self.words)),
            picture=None if self.picture is None else self.picture.to(device),
            first=None if self.first is None else self.first.to(device),
        )


@dataclass(frozen=True)
class Batching:
    """Makes the batches of one signal (None: nothing is guided) from one encoding cache.

    `follows` says whether they begin with the motion of the clips, which entries keep either way.
    """

    clips: EncodingCache
    signal: MotionSignal[Any] | None
    follows: bool = False
    reads_images = True

    @property
    def makes_entries(self) -> bool:
        return self.signal is not None

    @property
    def reads_words(self) -> bool:
        return self.signal is not None and self.signal.subjects is not None

    def prepare(
        self, tasks: Sequence[MotionTask], fail: Fail, between: Callable[[], None], *, bar: bool
    ) -> None:
        """Fill the cache for these clips, and free the encoders. Clips that cannot be read fail.
        `between` is called before each clip.
        """
        quiet = not (tasks and bar)
        with tqdm(
            tasks, "Encoding", unit="clip", leave=False, file=sys.stdout, disable=quiet
        ) as it:
            for task in it:
                between()
                with reported(task.name, fail):
                    self.clips.clip(task)
                    self._field(task, needed=self.follows)
                    self.clips.first(task)
                    self.clips.image(task)
                    self.clips.text(self._texts(task))
        self.clips.backbone.release_encoders()

    def check(self, tasks: Sequence[MotionTask], fail: Fail) -> None:
        """Report the clips that would fail in `prepare`, by reading them. Nothing is encoded."""
        for task in tqdm(tasks, desc="Reading", unit="clip", leave=False, disable=not tasks):
            with reported(task.name, fail):
                if self.follows and not self.clips.has(task, "field"):
                    look_for_cuts(self.clips.read(task).frames, task.name)
                elif not self.clips.has(task):
                    self.clips.read(task)
                if task.image:
                    self.clips.fitted(task)
                self._texts(task)

    def batch(self, leg: Leg, tasks: Sequence[MotionTask], settings: str) -> MotionBatch:
        """The batch of a leg. What the cache lacks is encoded now, and the encoders are freed.

        Raises FieldError for a clip whose motion is needed and cannot be followed.
        """
        follows = self.follows and leg.record is None  # a record holds what came of the motion
        encoded = [self.clips.clip(task) for task in tasks]
        batch = MotionBatch(
            leg=leg,
            tasks=tuple(tasks),
            settings=settings,
            size=self.clips.size_of(tasks[0]),
            sha256=tuple(clip.sha256 for clip in encoded),
            containers=tuple(clip.container for clip in encoded),
            latents=torch.stack([clip.latents for clip in encoded]),
            text=self.clips.text([task.prompt for task in tasks]),
            negative=self.clips.text([task.negative_prompt or "" for task in tasks]),
            seen_with=self.clips.text([reference_prompt(self.signal, task) for task in tasks]),
            words=words_of(self.clips.backbone, self.signal, tasks),
            fields=tuple(self._field(task, needed=follows) for task in tasks),
            image_sha256=tuple(map(self.clips.image_sha256, tasks)),
            picture=Picture.stacked([self.clips.image(task) for task in tasks]),
            first=Picture.stacked([self.clips.first(task) for task in tasks]),
        )
        self.clips.backbone.release_encoders()
        return batch

    def _field(self, task: MotionTask, *, needed: bool) -> MotionField | None:
        """The motion of a clip; where it is not needed without a warning, and None for a clip
        that cannot be followed. Without a signal nothing keeps it.
        """
        if needed:
            return self.clips.field(task)
        if not self.makes_entries:
            return None
        with suppress(FieldError), warnings.catch_warnings(action="ignore"):
            return self.clips.field(task)
        return None

    def _texts(self, task: MotionTask) -> list[str]:
        """The texts that are embedded for a clip. Raises ValueError for a text without the words
        that the signal reads.
        """
        words_of(self.clips.backbone, self.signal, [task])
        return [task.prompt, task.negative_prompt or "", reference_prompt(self.signal, task)]
