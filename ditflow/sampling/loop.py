"""Denoising: one classifier-free-guided step, and the plain loop. Everything random comes from a
generator of the clip's own.
"""

# B batch (b: 1 or B), F latent frames, C channels, Hl Wl latent rows and columns, L text tokens

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ditflow.core.schedule import DenoisingSchedule, Step
from ditflow.core.tokens import KeyValue
from ditflow.models.base import Model


def clip_generator(name: str, seed: int) -> torch.Generator:
    """A CPU generator that depends on nothing but the clip's name and the seed."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def initial_noise(
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
    device: torch.device | str | None = None,
) -> Tensor:
    """Standard normal float32 (B, *shape), one generator a clip; drawn on the CPU, so the same on
    every device.
    """
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators]).to(
        device
    )


@torch.no_grad()
def denoise(
    backbone: Model,
    latents: Tensor,
    step: Step,
    text: Tensor,
    negative: Tensor,
    *,
    position: Tensor | None = None,
    previous_x0: Tensor | None = None,
    generators: Sequence[torch.Generator],
    key_value: KeyValue | None = None,
) -> tuple[Tensor, Tensor]:
    """One guided step: the next latents and the predicted clean ones. `text` and `negative` are (B,
    L, .); position and key_value act on both passes.
    """
    with backbone.tapped(key_value=key_value):
        unconditional = backbone.predict(latents, step.timestep, negative, position)
        conditional = backbone.predict(latents, step.timestep, text, position)
    assert unconditional is not None and conditional is not None
    output = unconditional + step.guidance_scale * (conditional - unconditional)
    return backbone.advance(output, step, latents, previous_x0, generators)


def sample(
    backbone: Model,
    schedule: DenoisingSchedule,
    noise: Tensor,
    text: Tensor,
    negative: Tensor,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Plain generation from initial noise (B, F, C, Hl, Wl) to clean latents."""
    latents, x0 = noise, None
    for step in schedule:
        latents, x0 = denoise(
            backbone, latents, step, text, negative, previous_x0=x0, generators=generators
        )
    return latents
