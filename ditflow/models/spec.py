"""The sizes of a model, which no other module knows, and the fingerprint of its architecture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ditflow.core.noise import Prediction
from ditflow.core.schedule import GuidanceKind, Step
from ditflow.core.sizes import Compression, VideoSize


@dataclass(frozen=True)
class Lora:
    """A LoRA in the weights of a transformer, and how strongly."""

    file: str  # its name alone
    sha256: str
    scale: float = 1.0

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
    takes_picture: bool = False  # that the video begins with
    loras: tuple[Lora, ...] = ()  # that are merged into the weights

    def passes_of(self, steps: Iterable[Step]) -> int:
        """Passes of the transformer in some steps: one in a step with a guidance scale of 1."""
        return sum(1 if step.guidance_scale == 1 else self.passes for step in steps)


def fingerprint(config: Mapping[str, Any]) -> str:
    """sha256 of a transformer's configuration.

    Keys that say where, and with which version, it was saved do not count.
    """
    stable = {key: value for key, value in config.items() if not key.startswith("_")}
    return hashlib.sha256(json.dumps(stable, sort_keys=True, default=str).encode()).hexdigest()
