"""MotionBatch: clips that are optimised together, and how a batch is made of the encoding cache."""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns, L text tokens, E channels of
# the text encoder

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from datamodules.encoding_cache import EncodingCache
from datamodules.faults import Fail, reported
from datamodules.manifest import MotionTask
from datamodules.queue.work_queue import Leg
from ditflow.core.sizes import VideoSize
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

    def to(self, device: torch.device) -> MotionBatch:
        return replace(
            self,
            latents=self.latents.to(device),
            text=self.text.to(device),
            negative=self.negative.to(device),
            seen_with=self.seen_with.to(device),
            words=None if self.words is None else Words(*(x.to(device) for x in self.words)),
        )


@dataclass(frozen=True)
class Batching:
    """Makes the batches of one signal (None: nothing is guided) from one encoding cache."""

    cache: EncodingCache
    signal: MotionSignal[Any] | None

    def encode(
        self,
        tasks: Sequence[MotionTask],
        fail: Fail,
        between: Callable[[], None] = lambda: None,
        *,
        bar: bool = True,
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
                    self.cache.clip(task)
                    self.cache.text(self._texts(task))
        self.cache.backbone.release_encoders()

    def check(self, tasks: Sequence[MotionTask], fail: Fail) -> None:
        """Report the clips that would fail in `encode`, by reading them. Nothing is encoded."""
        for task in tqdm(tasks, desc="Reading", unit="clip", leave=False, disable=not tasks):
            with reported(task.name, fail):
                if not self.cache.has(task):
                    self.cache.read(task)
                self._texts(task)

    def batch(self, leg: Leg, tasks: Sequence[MotionTask], settings: str) -> MotionBatch:
        """The batch of a leg. What the cache lacks is encoded now, and the encoders are freed."""
        clips = [self.cache.clip(task) for task in tasks]
        batch = MotionBatch(
            leg=leg,
            tasks=tuple(tasks),
            settings=settings,
            size=self.cache.size_of(tasks[0]),
            sha256=tuple(clip.sha256 for clip in clips),
            containers=tuple(clip.container for clip in clips),
            latents=torch.stack([clip.latents for clip in clips]),
            text=self.cache.text([task.prompt for task in tasks]),
            negative=self.cache.text([task.negative_prompt or "" for task in tasks]),
            seen_with=self.cache.text([reference_prompt(self.signal, task) for task in tasks]),
            words=words_of(self.cache.backbone, self.signal, tasks),
        )
        self.cache.backbone.release_encoders()
        return batch

    def _texts(self, task: MotionTask) -> list[str]:
        """The texts that are embedded for a clip. Raises ValueError for a text without the words
        that the signal reads.
        """
        words_of(self.cache.backbone, self.signal, [task])
        return [task.prompt, task.negative_prompt or "", reference_prompt(self.signal, task)]
