"""The parts of a saved pipeline: transformer, scheduler, VAE and text encoder."""

# B batch, T pixel frames, C channels, Y X pixel rows and columns, L text tokens

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import diffusers
import torch
from torch import Tensor

from ditflow.models.encoders import Encoders
from ditflow.models.loading import (
    config_of,
    load_scheduler,
    load_transformer,
    scheduler_name,
    sketch_transformer,
)
from ditflow.models.spec import ModelSpec


class Parts(ABC):
    """How a model is loaded, and what its encoders do.

    The transformer is frozen: its weights never require gradients.
    """

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

    @classmethod
    def load(cls, folder: str, *, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        """From a folder in diffusers format, or a hub id. Raises ModelError."""
        spec = cls.spec_in(folder, name)
        transformer = load_transformer(cls.transformer_class, folder, dtype).to(device)
        return cls._around(transformer, spec, folder, device, dtype)

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
        depth = spec.blocks if blocks is None else blocks
        transformer = sketch_transformer(cls.transformer_class, folder, depth, device, dtype)
        return cls._around(transformer, spec, folder, device, dtype)

    @classmethod
    def _around(
        cls,
        transformer: Any,
        spec: ModelSpec,
        folder: str,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Self:
        scheduler = load_scheduler(folder, spec.scheduler)
        encoders = cls.encoders_class(folder, spec.text_tokens, device, dtype)
        return cls(spec, transformer, scheduler, encoders)

    @classmethod
    def spec_in(cls, folder: str, name: str) -> ModelSpec:
        """Of a folder or hub id, by its configurations alone.

        Raises ModelError that names the part that is missing or broken.
        """
        scheduler = scheduler_name(folder)
        parts = cls.transformer_class, getattr(diffusers, cls.encoders_class.vae_class)
        transformer, vae = (
            config_of(part, folder, subfolder, cls.needs[subfolder])
            for part, subfolder in zip(parts, ("transformer", "vae"), strict=True)
        )
        return cls.spec_of(name, transformer, vae, scheduler)

    @classmethod
    @abstractmethod
    def spec_of(
        cls, name: str, transformer: Mapping[str, Any], vae: Mapping[str, Any], scheduler: str
    ) -> ModelSpec:
        """From the configurations of the parts. Raises ModelError for what is not supported."""

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
