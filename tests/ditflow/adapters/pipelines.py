"""Tiny pipelines of the real classes, and motions to put on them."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import Tensor

from ditflow.fields.field import FieldSource, MotionField
from ditflow.models import Model
from ditflow.sampling.state import initial_noise
from tests.families import likeliest
from tests.registry import PICTURED, WAN, frames_of, size_of, tiny_backbone, tiny_folder
from tests.registry import PROMPTS as SAID

STEPS = 4


def pipeline_of(kind: str, **options: Any) -> Any:
    pipe = DiffusionPipeline.from_pretrained(tiny_folder(kind), **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pan(across: float = 0.4) -> MotionField:
    """All content goes right by so many shares of the frame."""
    displacement = torch.zeros(5, 2, 8, 12)
    displacement[:, 0] = -torch.linspace(0, across, 5)[:, None, None]
    source = FieldSource("made", "pan")
    times = (0.0, 2.0, 4.0, 6.0, 8.0)
    return MotionField(displacement, torch.ones(5, 8, 12), times, 9, 1.5, source)


def noise_of(model: Model, videos: int = 1) -> Tensor:
    draws = [torch.Generator().manual_seed(seed) for seed in range(videos)]
    return initial_noise(model.spec.compression.latent_shape(size_of(model)), draws)


def called(
    pipe: Any, kind: str, *, noise: Tensor | None = None, videos: int = 1, **options: Any
) -> Tensor:
    """Latents (B, F, C, Hl, Wl) of a call of the pipeline."""
    wan, model = kind in WAN, tiny_backbone(kind)
    size = size_of(model)
    if noise is not None:
        options["latents"] = noise.transpose(1, 2) if wan else noise
    said: dict[str, Any] = {"prompt": SAID[:videos], "negative_prompt": ["dog"] * videos}
    if kind in PICTURED:  # its pipeline reads text with a library that is not needed otherwise
        text = model.embed([*SAID[:videos], *["dog"] * videos])
        said = dict(zip(("prompt_embeds", "negative_prompt_embeds"), text.chunk(2), strict=True))
        said["image"] = Image.fromarray(frames_of(1)[0, 0].permute(1, 2, 0).numpy())
    asked: dict[str, Any] = {
        **said,
        "height": size.height,
        "width": size.width,
        "num_frames": size.frames,
        "num_inference_steps": STEPS,
        "guidance_scale": 5.0,
        "generator": [torch.Generator().manual_seed(1 + seed) for seed in range(videos)],
        "max_sequence_length": 512 if wan else 16,
        "output_type": "latent",
    }
    with likeliest():
        made: Tensor = pipe(**asked | options).frames
    return made.transpose(1, 2) if wan else made
