"""What the methods need of a video diffusion transformer, whichever family it is of."""

# B batch (b: 1 or B), T pixel frames, C channels, Y X pixel rows and columns, F latent frames, Hl
# Wl latent rows and columns,
# N video tokens, L text tokens, E hidden dim, D head dim

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from ditflow.core.schedule import DenoisingSchedule, GuidanceKind, Step
from ditflow.core.sizes import Compression, VideoSize
from ditflow.core.tokens import KeyValue, Recording


class ModelError(ValueError):
    """A backbone that cannot be found, loaded or used; the message says what to do."""


@dataclass(frozen=True)
class ModelSpec:
    """The sizes of a backbone; no other module knows them."""

    name: str  # as the user named it
    fingerprint: str  # of the transformer's configuration
    position: Literal["rotary", "sinusoidal"]
    blocks: int
    heads: int
    head_dim: int
    hidden: int
    text_tokens: int
    text_channels: int  # of the text encoder
    compression: Compression
    size: VideoSize  # that it was trained for
    guidance: GuidanceKind
    scheduler: str


class Model(ABC):
    """A frozen video diffusion transformer with its VAE, text encoder and scheduler.

    Latents are float32 (B, F, C, Hl, Wl), scaled. A position is one float32 tensor: rotary (b, 2,
    2, N, D) of [query, key][cos, sin], or sinusoidal (b, N, E); None means the model's own. Weights
    never require gradients; gradients flow to latents and positions.
    """

    spec: ModelSpec
    device: torch.device
    dtype: torch.dtype  # of the transformer

    @classmethod
    @abstractmethod
    def load(cls, folder: str, *, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        """From a folder in diffusers format, or a hub id. Raises ModelError."""

    @classmethod
    @abstractmethod
    def sketch(
        cls,
        folder: str,
        *,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        blocks: int | None = None,
    ) -> Self:
        """The architecture without its weights: on the device "meta" its sizes; on another random
        weights, so many blocks deep, to measure with.
        """

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (B, T, C, Y, X) -> latents, the mode of the posterior."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> uint8 (B, T, C, Y, X)."""

    @abstractmethod
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> (B, L, channels of the text encoder), as many as the spec says."""

    @abstractmethod
    def words(self, prompts: Sequence[str], subjects: Sequence[str | int]) -> Tensor:
        """What each text token is, int (B, L): 0 padding, 1 a word, 2 a word of the subject, which
        is named by its words or by the place of one.

        Raises ValueError for a prompt without its subject.
        """

    @abstractmethod
    def release_encoders(self) -> None:
        """Free the VAE and the text encoder; they are loaded again when needed."""

    @abstractmethod
    def stock_position(self, size: VideoSize) -> Tensor:
        """The model's own position, b = 1."""

    @abstractmethod
    def rotary_positions(self, size: VideoSize) -> Tensor:
        """Where the model's own rotary position puts its tokens: float32 (N, 3) of (t, y, x)."""

    @abstractmethod
    def predict(
        self, latents: Tensor, timestep: int, text: Tensor, position: Tensor | None = None
    ) -> Tensor | None:
        """The transformer's output in float32, shaped like the latents; None if a tap stopped it
        early.

        `text` is (b, L, .) as `embed` makes it. Runs in the transformer's dtype.
        """

    @abstractmethod
    def tapped(
        self,
        capture: Collection[int] = (),
        features: Collection[int] = (),
        *,
        stop_early: bool = False,
        key_value: KeyValue | None = None,
        checkpointing: bool = False,
    ) -> AbstractContextManager[Recording]:
        """See `ditflow.models.taps.taps`. A rotary position can be given to `predict` inside this
        context only. Raises ModelError for an unknown block.
        """

    @abstractmethod
    def schedule(
        self, steps: int, guidance_scale: float = 7.0, guidance: GuidanceKind | None = None
    ) -> DenoisingSchedule:
        """The scheduler's timesteps for this many steps; `guidance` None means the published kind
        for this scheduler.
        """

    @property
    @abstractmethod
    def weights(self) -> int:
        """How many numbers the transformer's weights are."""

    @property
    @abstractmethod
    def noise_levels(self) -> Tensor:
        """The share of noise in the variance of latents at each timestep of the forward process,
        rising, float32 on the CPU.
        """

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Latents at a timestep of the forward process."""

    @abstractmethod
    def advance(
        self,
        output: Tensor,
        step: Step,
        latents: Tensor,
        previous_x0: Tensor | None,
        generators: Sequence[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        """One step of the scheduler: the next latents, and the clean latents predicted now. One
        generator a clip.
        """

    def check_blocks(self, blocks: Collection[int]) -> None:
        """Raise ModelError unless all of these blocks exist."""
        for block in blocks:
            if not 0 <= block < self.spec.blocks:
                raise ModelError(
                    f"there is no block {block}: {self.spec.name!r} has blocks 0 to {self.spec.blocks - 1}. Choose one of these."
                )


def fingerprint(config: Mapping[str, Any]) -> str:
    """sha256 of a model's configuration, without the keys that tell where and by which version it
    was saved.
    """
    stable = {key: value for key, value in config.items() if not key.startswith("_")}
    return hashlib.sha256(json.dumps(stable, sort_keys=True, default=str).encode()).hexdigest()
