"""The parts of a saved pipeline: transformer, scheduler, VAE and text encoder."""

# B batch, T pixel frames, C channels, Y X pixel rows and columns, L text tokens

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import diffusers
import torch
from torch import Tensor

from ditflow.core.picture import Picture
from ditflow.models.encoders import Encoders
from ditflow.models.loading import (
    ModelError,
    config_of,
    load_scheduler,
    load_transformer,
    pipeline_config,
    sketch_transformer,
)
from ditflow.models.spec import ModelSpec, expert_fingerprint, fingerprint
from ditflow.models.weights.files import check_configuration, check_experts, check_named
from ditflow.models.weights.turns import Turns, exchange


class Parts(ABC):
    """How a model is loaded, and what its encoders do.

    Transformers are frozen: their weights never require gradients. Where there are two, `experts`
    for much and for little noise, `transformer` is the one that is on the device.
    """

    transformer_class: ClassVar[Any]  # of diffusers
    pipelines: ClassVar[tuple[str, ...]]  # of diffusers, that save these parts; the first by text
    encoders_class: ClassVar[type[Encoders]]
    schedulers: ClassVar[tuple[str, ...]]  # of diffusers, that a checkpoint may be saved with
    needs: ClassVar[Mapping[str, Sequence[str]]]  # keys of the configurations, by part

    def __init__(
        self,
        spec: ModelSpec,
        transformer: Any,
        scheduler: Any,
        encoders: Encoders,
        *second: Any,
    ) -> None:
        self.spec, self.scheduler, self.encoders = spec, scheduler, encoders
        self.experts = [expert.eval().requires_grad_(False) for expert in (transformer, *second)]
        self.transformer = self.experts[0]
        self.moves_experts = True  # one of two is on the device at a time
        self.seen_as: float | None = None  # the timestep whose expert runs, whatever it is told
        self.checkpointing: bool | None = None  # as the plan of its memory says
        self.turns: Turns | None = None
        self.device: torch.device = encoders.device
        self.dtype: torch.dtype = transformer.dtype

    @classmethod
    def load(
        cls,
        folder: str,
        spec: ModelSpec,
        *,
        device: torch.device,
        dtype: torch.dtype,
        waits: bool = False,
        **how: Any,
    ) -> Self:
        """From a folder in diffusers format, or a hub id. One that `waits` stays on the CPU."""
        names = ("transformer", "transformer_2") if spec.boundary else ("transformer",)
        transformers = [
            load_transformer(cls.transformer_class, folder, name, dtype, **how) for name in names
        ]
        if not waits:
            transformers[0].to(device)
        return cls._around(transformers, spec, folder, device, dtype)

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
        blocks deep, to measure with. Experts are alike, so one stands for both.
        """
        spec = cls.spec_in(folder, name)
        depth = spec.blocks if blocks is None else blocks
        transformer = sketch_transformer(cls.transformer_class, folder, depth, device, dtype)
        experts = [transformer] * (2 if spec.boundary else 1)
        return cls._around(experts, spec, folder, device, dtype)

    @classmethod
    def _around(
        cls,
        experts: Sequence[Any],
        spec: ModelSpec,
        folder: str,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Self:
        scheduler = load_scheduler(folder, spec.scheduler)
        encoders = cls.encoders_class(folder, spec.text_tokens, device, dtype)
        return cls(spec, experts[0], scheduler, encoders, *experts[1:])

    @classmethod
    def classes(cls) -> dict[str, Any]:
        """The classes of the parts that have weights, of diffusers and of transformers."""
        import transformers

        encoders = cls.encoders_class
        return {
            "transformer": cls.transformer_class,
            "transformer_2": cls.transformer_class,
            "vae": getattr(diffusers, encoders.vae_class),
            "text_encoder": getattr(transformers, encoders.text_class),
            "image_encoder": transformers.CLIPVisionModel,
        }

    @classmethod
    def spec_in(cls, folder: str, name: str) -> ModelSpec:
        """Of a folder or hub id, by its configurations alone.

        Raises ModelError that names the part that is missing or broken.
        """
        pipeline = pipeline_config(folder)
        parts = cls.transformer_class, getattr(diffusers, cls.encoders_class.vae_class)
        transformer, vae = (
            config_of(part, folder, subfolder, cls.needs[subfolder])
            for part, subfolder in zip(parts, ("transformer", "vae"), strict=True)
        )
        check_configuration(folder, "transformer", transformer, parts[0].__name__)
        check_configuration(folder, "vae", vae, parts[1].__name__)
        spec = cls.described(name, transformer, vae, pipeline["scheduler"], pipeline)
        if (pipeline.get("transformer_2") or [None])[-1] and not spec.boundary:
            raise ModelError(
                f"backbone {name!r} has two transformers, and nothing says which one denoises "
                "when. Save its pipeline with a boundary_ratio, if it is of a family that has "
                "experts, or use a single transformer."
            )
        tokens = spec.picture == "required" and transformer.get("image_dim") is not None
        check_named(name, pipeline, ("image_encoder", "image_processor") if tokens else ())
        if spec.boundary:
            check_named(name, pipeline, ["transformer_2"])
            second = config_of(parts[0], folder, "transformer_2", cls.needs["transformer"])
            check_configuration(folder, "transformer_2", second, parts[0].__name__)
            check_experts(name, transformer, second)
        return spec

    @classmethod
    def described(
        cls,
        name: str,
        transformer: Mapping[str, Any],
        vae: Mapping[str, Any],
        scheduler: str,
        pipeline: Mapping[str, Any],
    ) -> ModelSpec:
        """From the configurations of the parts and of the pipeline, with the fingerprint of the
        architecture. Raises ModelError for what is not supported.
        """
        spec = cls.with_options(cls.spec_of(name, transformer, vae, scheduler), pipeline)
        whole = fingerprint(transformer, cls.transformer_class)
        if spec.boundary:
            whole = expert_fingerprint(whole, spec.boundary)
        return replace(spec, fingerprint=whole, saved_fingerprint=spec.fingerprint)

    @classmethod
    @abstractmethod
    def spec_of(
        cls, name: str, transformer: Mapping[str, Any], vae: Mapping[str, Any], scheduler: str
    ) -> ModelSpec:
        """From the configurations of the parts. Raises ModelError for what is not supported."""

    @classmethod
    def with_options(cls, spec: ModelSpec, pipeline: Mapping[str, Any]) -> ModelSpec:
        """The spec with what a pipeline's own options say. Raises ModelError for an impossible
        one.
        """
        return spec

    @property
    def boundary(self) -> float:
        """The second expert denoises at timesteps below this; 0 where there is one transformer."""
        return float(self.spec.boundary * self.scheduler.config.num_train_timesteps)

    def expert(self, timestep: float) -> int:
        """Which of the experts denoises at a timestep: 0 where there is much noise, else 1."""
        return int(timestep < self.boundary)

    def transformer_at(self, timestep: float) -> Any:
        """The transformer of a timestep, or of the one that it is `seen_as`, on the device, where
        one of the experts is at a time.
        """
        expert = self.experts[self.expert(timestep if self.seen_as is None else self.seen_as)]
        if expert is not self.transformer:
            exchange(self, expert)
        if self.turns is not None:
            self.turns.transformer_comes()
        return self.transformer

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (B, T, C, Y, X) -> latents, the mode of the posterior."""
        return self.encoders.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> uint8 (B, T, C, Y, X)."""
        return self.encoders.decode(latents)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> (B, L, channels of the text encoder), as many tokens as the spec says."""
        return self.encoders.embed(prompts)

    def look(self, images: Tensor, frames: int) -> Picture | None:
        """What the model is shown of images uint8 (B, C, Y, X) that videos of so many frames begin
        with; None for a model that takes no picture.
        """
        return None

    def blank(self, latents: Tensor) -> Picture | None:
        """A picture of zeros for latents (B, F, C, Hl, Wl), to measure with."""
        return None

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
        """How many numbers the transformer's weights are: of experts, those of one."""
        return sum(parameter.numel() for parameter in self.transformer.parameters())
