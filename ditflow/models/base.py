"""What ditflow needs of a video diffusion transformer, whichever family it is of.

Nothing else in the project knows a family. A family is one file: a subclass of `Model` that fills
in the abstract members and the class attributes, and one line in `registry.py`.
"""

# B batch (b: 1 or B), T pixel frames, C channels, Y X pixel rows and columns, F latent frames,
# Hl Wl latent rows and columns, N video tokens, L text tokens, E hidden dim, A heads, D head dim

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import diffusers
import torch
from torch import Tensor

from ditflow.core.noise import NoiseLevel, Prediction, separate
from ditflow.core.schedule import DenoisingSchedule, GuidanceKind, Step
from ditflow.core.sizes import Compression, TokenGrid, VideoSize
from ditflow.core.tokens import KeyValue, Recording
from ditflow.models.encoders import Encoders
from ditflow.models.loading import (
    ModelError,
    config_of,
    load_scheduler,
    load_transformer,
    scheduler_name,
    sketch_transformer,
)
from ditflow.models.taps import Layout, taps

__all__ = ["Model", "ModelError", "ModelSpec", "fingerprint"]


@dataclass(frozen=True)
class ModelSpec:
    """The sizes of a model; no other module knows them."""

    name: str  # as the user named it
    fingerprint: str  # of the transformer's configuration
    transformer: str  # its diffusers class
    position: Literal["rotary", "sinusoidal"]
    blocks: int
    heads: int
    head_dim: int
    hidden: int
    text_tokens: int
    text_channels: int  # of the text encoder
    compression: Compression
    size: VideoSize  # that it was trained for
    prediction: Prediction  # what the transformer's output means
    guidance: GuidanceKind
    scheduler: str
    passes: int = 2  # of the transformer in a step with classifier-free guidance


class Model(ABC):
    """A frozen video diffusion transformer with its VAE, text encoder and scheduler.

    Latents are float32 (B, F, C, Hl, Wl), scaled, whatever order the family has. A position is one
    float32 tensor: rotary (b, 2, 2, N, D) of [query, key][cos, sin], or (b, 2, 2, N, A, D) where
    heads differ, or sinusoidal (b, N, E); None means the model's own. Weights never require
    gradients; gradients flow to latents and positions.
    """

    layout: ClassVar[Layout]
    transformer_class: ClassVar[Any]  # of diffusers
    encoders_class: ClassVar[type[Encoders]]
    needs: ClassVar[Mapping[str, Sequence[str]]]  # keys of the configurations, by part

    def __init__(
        self, spec: ModelSpec, transformer: Any, scheduler: Any, encoders: Encoders
    ) -> None:
        self.spec, self.scheduler, self.encoders = spec, scheduler, encoders
        self.transformer = transformer.eval().requires_grad_(False)
        self.device: torch.device = encoders.device
        self.dtype: torch.dtype = transformer.dtype
        self._tapped = False

    @classmethod
    def load(cls, folder: str, *, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        """From a folder in diffusers format, or a hub id. Raises ModelError."""
        spec = cls.spec_in(folder, name)
        scheduler = load_scheduler(folder, spec.scheduler)
        transformer = load_transformer(cls.transformer_class, folder, dtype).to(device)
        encoders = cls.encoders_class(folder, spec.text_tokens, device, dtype)
        return cls(spec, transformer, scheduler, encoders)

    @classmethod
    def sketch(
        cls,
        folder: str,
        *,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        blocks: int | None = None,
    ) -> Self:
        """The architecture without its weights.

        On the device "meta" it has sizes only. On another device its weights are random, so many
        blocks deep, to measure with.
        """
        spec = cls.spec_in(folder, name)
        scheduler = load_scheduler(folder, spec.scheduler)
        depth = spec.blocks if blocks is None else blocks
        transformer = sketch_transformer(cls.transformer_class, folder, depth, device, dtype)
        encoders = cls.encoders_class(folder, spec.text_tokens, device, dtype)
        return cls(spec, transformer, scheduler, encoders)

    @classmethod
    def spec_in(cls, folder: str, name: str) -> ModelSpec:
        """Of a folder or hub id, by its configurations alone.

        Raises ModelError that names the part that is missing or broken.
        """
        scheduler = scheduler_name(folder)
        transformer = config_of(
            cls.transformer_class, folder, "transformer", cls.needs["transformer"]
        )
        vae = config_of(
            getattr(diffusers, cls.encoders_class.vae_class), folder, "vae", cls.needs["vae"]
        )
        return cls.spec_of(name, transformer, vae, scheduler)

    @classmethod
    @abstractmethod
    def spec_of(
        cls, name: str, transformer: Mapping[str, Any], vae: Mapping[str, Any], scheduler: str
    ) -> ModelSpec:
        """From the configurations of the parts. Raises ModelError for what is not supported."""

    @abstractmethod
    def schedule(
        self, steps: int, guidance_scale: float = 7.0, guidance: GuidanceKind | None = None
    ) -> DenoisingSchedule:
        """The scheduler's steps, so many of them.

        `guidance` None means the published kind for this scheduler. Raises ModelError for a number
        of steps that the scheduler cannot take.
        """

    @abstractmethod
    def level(self, timestep: float) -> NoiseLevel:
        """The noise of the forward process at a timestep.

        Raises ModelError for a timestep that the scheduler does not have.
        """

    @abstractmethod
    def timestep_of(self, share: float) -> float:
        """The timestep at which noise has this share of the variance, or nearly."""

    @abstractmethod
    def positions(self, grid: TokenGrid) -> Tensor:
        """Where the model's own positions put its tokens: float32 (N, 3) of (t, y, x)."""

    @abstractmethod
    def tables(self, positions: Tensor) -> Tensor:
        """Rotary tables of positions (..., N, 3): (..., 2, N, D) of [cos, sin], differentiable.

        (..., 2, N, A, D) where heads differ. The model's own positions give its own table, bit by
        bit.
        """

    @abstractmethod
    def predict(
        self, latents: Tensor, timestep: float, text: Tensor, position: Tensor | None = None
    ) -> Tensor | None:
        """The transformer's output in float32, shaped like the latents; None if a tap stopped it.

        `text` is (b, L, .) as `embed` makes it. Runs in the transformer's dtype.
        """

    def stock_position(self, grid: TokenGrid) -> Tensor:
        """The model's own position, b = 1."""
        table = self.tables(self.positions(grid))
        return table[None, None].expand(1, 2, *table.shape)

    def guided(
        self,
        latents: Tensor,
        step: Step,
        text: Tensor,
        negative: Tensor,
        position: Tensor | None = None,
    ) -> Tensor:
        """The output of a step after classifier-free guidance (Ho and Salimans, 2207.12598)."""
        unconditional = self.predict(latents, step.timestep, negative, position)
        conditional = self.predict(latents, step.timestep, text, position)
        assert unconditional is not None and conditional is not None
        return unconditional + step.guidance_scale * (conditional - unconditional)

    def advance(
        self,
        output: Tensor,
        step: Step,
        latents: Tensor,
        previous_x0: Tensor | None,
        generators: Sequence[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        """One step of the scheduler: the next latents, and the clean latents predicted now.

        `previous_x0` are the clean latents of the step before, for solvers of second order.
        `generators` are one for each clip, for solvers that add noise. Here it is the deterministic
        step: DDIM, or Euler on a flow.
        """
        clean, noise = separate(latents, output, step.level, self.spec.prediction)
        return step.next_level.mix(clean, noise), clean

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (B, T, C, Y, X) -> latents, the mode of the posterior."""
        return self.encoders.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> uint8 (B, T, C, Y, X)."""
        return self.encoders.decode(latents)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> (B, L, channels of the text encoder), as many tokens as the spec says."""
        return self.encoders.embed(prompts)

    def words(self, prompts: Sequence[str], subjects: Sequence[str | int]) -> Tensor:
        """What each text token is, int (B, L): 0 padding, 1 a word, 2 a word of the subject.

        A subject is named by its words, or by the place of one. Raises ValueError for a prompt
        without its subject.
        """
        return self.encoders.words(prompts, subjects)

    def release_encoders(self) -> None:
        """Free the VAE and the text encoder. They are loaded again when needed."""
        self.encoders.release()

    @property
    def weights(self) -> int:
        """How many numbers the transformer's weights are."""
        return sum(parameter.numel() for parameter in self.transformer.parameters())

    @contextmanager
    def tapped(
        self,
        capture: Collection[int] = (),
        features: Collection[int] = (),
        *,
        stop_early: bool = False,
        key_value: KeyValue | None = None,
        checkpointing: bool = False,
    ) -> Iterator[Recording]:
        """Record or replace what the transformer computes; see `ditflow.models.taps.taps`.

        `predict` takes a rotary position inside this context only. Raises ModelError for a block
        that does not exist.
        """
        assert not self._tapped, "taps do not nest: one context records and replaces all"
        self.check_blocks([*capture, *features, *(key_value or {})])
        was = self.transformer.gradient_checkpointing
        tap = taps(
            self.transformer,
            self.layout,
            capture=capture,
            features=features,
            stop_early=stop_early,
            key_value=key_value,
        )
        with tap as recording:
            try:
                self._tapped = True
                if checkpointing:
                    self.transformer.enable_gradient_checkpointing()
                yield recording
            finally:
                self._tapped, self.transformer.gradient_checkpointing = False, was

    def check_blocks(self, blocks: Collection[int]) -> None:
        """Raise ModelError unless all of these blocks exist."""
        for block in blocks:
            if not 0 <= block < self.spec.blocks:
                raise ModelError(
                    f"there is no block {block}: {self.spec.name!r} has blocks 0 to "
                    f"{self.spec.blocks - 1}. Choose one of these."
                )

    def check_tapped(self) -> None:
        """Raise ModelError outside of `tapped`, where nothing applies a rotary position."""
        if not self._tapped:
            raise ModelError(
                "a rotary position is applied by hooks: call predict inside "
                "`with backbone.tapped():`."
            )


def fingerprint(config: Mapping[str, Any]) -> str:
    """sha256 of a model's configuration, without the keys that tell where and by which version it
    was saved.
    """
    stable = {key: value for key, value in config.items() if not key.startswith("_")}
    return hashlib.sha256(json.dumps(stable, sort_keys=True, default=str).encode()).hexdigest()
