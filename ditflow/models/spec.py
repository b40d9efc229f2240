"""The sizes of a model, which no other module knows, and the fingerprint of its architecture."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ditflow.core.noise import Prediction
from ditflow.core.picture import Use
from ditflow.core.schedule import GuidanceKind, Step
from ditflow.core.sizes import Compression, VideoSize

EXPERTS = ("high", "low")  # two transformers, by the noise that they denoise


@dataclass(frozen=True)
class Lora:
    """A LoRA in the weights of a transformer, and how strongly."""

    file: str  # its name alone, or "high=NAME" or "low=NAME" of one that is for an expert
    sha256: str
    scale: float = 1.0

    @property
    def expert(self) -> str:
        """Which of two transformers it is for; empty for all that there are."""
        expert, _, name = self.file.partition("=")
        return expert if name and expert in EXPERTS else ""

    def __str__(self) -> str:
        return f"{self.file} at {self.scale:g}"


class Kept(NamedTuple):
    """What a block keeps for its backward pass: how many numbers for each channel of a video token,
    in the model's dtype and in float32, and for each channel of a text token. They are counted.
    """

    own: int
    wide: int
    text: int


@dataclass(frozen=True)
class ModelSpec:
    """What a model is, by the configurations of its parts."""

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
    boundary: float = 0.0  # the share of the trained timesteps that a second transformer denoises
    token_timesteps: bool = False  # the transformer is told a timestep for each token
    picture: Use = "none"  # that the video begins with
    loras: tuple[Lora, ...] = ()  # that are merged into the weights
    quantised: str = ""  # what the weights of its blocks were made: int8 or fp8
    saved_fingerprint: str = ""  # of the configuration as it was saved, which older entries have

    def knows(self, fingerprint: str) -> bool:
        """Whether an entry with this fingerprint was made on such a model."""
        return fingerprint in (self.fingerprint, self.saved_fingerprint)

    def passes_of(self, steps: Iterable[Step]) -> int:
        """Passes of the transformer in some steps: one in a step with a guidance scale of 1."""
        return sum(1 if step.guidance_scale == 1 else self.passes for step in steps)


def architecture(made: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a `ModelSpec` says of a transformer of a class of diffusers, by its configuration."""
    heads, head_dim = config["num_attention_heads"], config["attention_head_dim"]
    return {
        "transformer": made.__name__,
        "fingerprint": fingerprint(config),
        "blocks": config["num_layers"],
        "heads": heads,
        "head_dim": head_dim,
        "hidden": heads * head_dim,
    }


def fingerprint(config: Mapping[str, Any], made: type | None = None) -> str:
    """sha256 of a transformer's configuration.

    Keys that say where, and with which version, it was saved do not count. Nor do those that have
    the default of the class that is `made` with it: a checkpoint that was saved before a key was
    there has the same fingerprint as the transformer that was loaded from it.
    """
    defaults = {} if made is None else inspect.signature(made).parameters
    stable = {
        key: value
        for key, value in config.items()
        if not key.startswith("_") and not (key in defaults and _same(value, defaults[key].default))
    }
    return hashlib.sha256(json.dumps(stable, sort_keys=True, default=str).encode()).hexdigest()


def expert_fingerprint(transformer: str, boundary: float) -> str:
    """Of two experts, from the fingerprint of the configuration that they share."""
    return fingerprint({"transformer": transformer, "boundary_ratio": boundary})


def _same(value: Any, default: Any) -> bool:
    """Whether a value is the default, which JSON may have made another kind of sequence."""
    return json.dumps(value, default=str) == json.dumps(default, default=str)
