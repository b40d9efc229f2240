"""What a run costs, before it is begun and without arithmetic: operations and memory.

Both follow from the sizes of the backbone and of the video.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ditflow.bank import EntryMetadata, FieldMetadata
from ditflow.compatibility import Injection, window_of
from ditflow.core.schedule import DenoisingSchedule, GuidanceKind, GuidanceWindow
from ditflow.core.sizes import VideoSize
from ditflow.models import Model, ModelSpec, Work
from ditflow.models.presets import recommended
from ditflow.models.weights.choice import weights_of
from ditflow.models.weights.plan import Plan
from ditflow.models.weights.work import Activations
from ditflow.sampling.control import GuidedSteps
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.recipe import Choices, given_or


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
    kind: Any = backbone.spec.quantised or "none"
    return Plan(kind).weights(weights_of(backbone))


def memory(
    backbone: Model, size: VideoSize, batch_size: int, guidance: MotionGuidance | None
) -> float:
    """Bytes at the peak of an update, estimated: the weights, what blocks keep for the backward
    pass until the signal has been read, and a block or the loss at work.

    Under checkpointing a block keeps its input only. Without guidance there is no backward pass.
    """
    work = work_of(backbone.spec, size, batch_size, guidance)
    kept = Activations.of(backbone.spec, backbone.kept, backbone.dtype, work)
    checkpointing = guidance is not None and guidance.checkpointing
    return weights(backbone) + float(kept.peak(checkpointing=checkpointing))


def work_of(
    spec: ModelSpec,
    size: VideoSize,
    batch_size: int,
    guidance: MotionGuidance | None,
    checkpointing: bool | None = None,
) -> Work:
    """Updates of videos of a size under a guidance; without one or its signal, videos alone."""
    signal = guidance.signal if guidance is not None else None
    if guidance is None or signal is None:
        return Work(size, batch_size)
    depth = 1 + max((*signal.capture, *signal.features, *signal.text))
    return Work(size, batch_size, depth, guidance.kind.needs == "rotary", checkpointing)


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
