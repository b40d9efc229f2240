"""What a run costs, before it is begun and without arithmetic: operations and memory.

Both follow from the sizes of the backbone and of the video.
"""

# N video tokens, E hidden dim

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ditflow.bank import EntryMetadata, FieldMetadata
from ditflow.compatibility import Injection, window_of
from ditflow.core.schedule import DenoisingSchedule, GuidanceKind, GuidanceWindow
from ditflow.core.sizes import VideoSize
from ditflow.models import Model
from ditflow.models.presets import recommended
from ditflow.sampling.control import GuidedSteps
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.recipe import Choices, given_or

# tensors (N, E) in float32 that a block keeps besides, where rotary positions are optimised: what
# these are multiplied with, query and key, and both turned
ROTATED = 4


@torch.no_grad()
def operations(sketch: Model, size: VideoSize) -> float:
    """Multiplications and additions of one forward pass of one sample, counted by torch.

    The sketch is on the device "meta", where nothing is computed.
    """
    latents, text = sample_of(sketch, size)
    with FlopCounterMode(display=False) as counter:
        sketch.predict(latents, 500, text, picture=sketch.blank(latents))
    return float(counter.get_total_flops())


def sample_of(model: Model, size: VideoSize) -> tuple[Tensor, Tensor]:
    """Latents and text of one sample, of any values, to look at costs with."""
    spec = model.spec
    latents = torch.zeros(1, *spec.compression.latent_shape(size), device=model.device)
    return latents, torch.zeros(1, spec.text_tokens, spec.text_channels, device=model.device)


def weights(backbone: Model) -> int:
    """Bytes of the transformer's weights, counted."""
    return backbone.dtype.itemsize * backbone.weights


def memory(
    backbone: Model, size: VideoSize, batch_size: int, guidance: MotionGuidance | None
) -> float:
    """Bytes at the peak of an update, estimated: the weights, what blocks keep for the backward
    pass until the signal has been read, and one block at work.

    Under checkpointing a block keeps its input only. Without guidance there is no backward pass.
    """
    signal = guidance.signal if guidance is not None else None
    depth = 1 + max((*signal.capture, *signal.features, *signal.text)) if signal is not None else 0
    spec, width = backbone.spec, backbone.dtype.itemsize
    video, text = spec.compression.grid(size).tokens, spec.text_tokens
    rotated = ROTATED if guidance is not None and guidance.kind.needs == "rotary" else 0
    wide = torch.float32.itemsize * (backbone.kept.wide + rotated)
    block = video * (width * backbone.kept.own + wide) + text * width * backbone.kept.text
    checkpointing = guidance is not None and guidance.checkpointing
    left = block + depth * (width * (video + text) if checkpointing else block)
    return weights(backbone) + float(batch_size) * left * spec.hidden


def schedule_of(
    entry: EntryMetadata | FieldMetadata, backbone: Model, choices: Choices
) -> DenoisingSchedule:
    """Denoising steps of a video with an entry's motion: as chosen, else as the entry was optimised
    on, else as recommended for the backbone.
    """
    optimised = isinstance(entry, EntryMetadata)
    own = entry if optimised else recommended(backbone.spec)
    return backbone.schedule(
        given_or(choices.steps, own.steps),
        given_or(choices.guidance_scale, own.guidance_scale),
        choices.guidance or (cast(GuidanceKind, entry.guidance) if optimised else None),
    )


def passes_of(
    entry: EntryMetadata | FieldMetadata,
    backbone: Model,
    how: Injection,
    schedule: DenoisingSchedule,
) -> int:
    """Forward passes of a video with an entry's motion. With a motion scale there is one more in
    each step in which the entry's positions act.
    """
    plain = backbone.spec.passes_of(schedule)
    if how.motion_scale is None:
        return plain
    if isinstance(entry, FieldMetadata):
        return plain + len(GuidanceWindow.of(window_of(backbone, how), schedule))
    if entry.variable == "latents":
        return plain
    guided = GuidedSteps(backbone.schedule(entry.steps), GuidanceWindow(*entry.window))
    return plain + sum(guided.index(step) is not None for step in schedule)
