"""The three sentences: take the motion of a clip, make a new video with it, put a motion from a
bank into another video.
"""

# B batch, T pixel frames, C channels, Y X pixel rows and columns, F latent frames, S tokens per
# frame

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ditflow.bank import BankEntry
from ditflow.compatibility import Source, check_entry, entries_of
from ditflow.core.schedule import DenoisingSchedule, GuidanceKind
from ditflow.core.sizes import VideoSize
from ditflow.models import Model
from ditflow.models.presets import Recommendation, recommended
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.key_value import nearest, reference_key_value
from ditflow.sampling.loop import clip_generator, denoise, initial_noise
from ditflow.sampling.optimise import Guidance, guided_step, start_guidance
from ditflow.sampling.reference import reference_motion, reference_prompt, words_of
from ditflow.sampling.variables import VARIABLES
from ditflow.video import Clip

T = TypeVar("T")


@dataclass(frozen=True)
class Transfer:
    """A new video, uint8 (T, C, Y, X) on the CPU, and what was optimised for it."""

    frames: Tensor
    entry: BankEntry


def extract_motion(
    backbone: Model, frames: Tensor, signal: AttentionMotionFlow | None = None
) -> Tensor:
    """The motion of a video, uint8 (T, C, Y, X): its attention motion flow, by default at the
    recommended block. Displacement (F, F, S, 2) of (dx, dy) in tokens, from frame i to frame j, x
    right and y down. Raises ValueError where the video's size does not fit the backbone, and for a
    signal that looks at its reference anew at each step."""
    _check_given(
        "extract_motion",
        frames,
        Tensor,
        "a video's frames, uint8 (T, C, Y, X): of a Clip, its .frames",
    )
    backbone.spec.compression.check_motion(VideoSize(len(frames), *frames.shape[-2:]))
    if signal is not None and signal.looks.timestep == "match":
        raise ValueError(
            "extract_motion looks at a video once, and reference_timestep='match' is the timestep of each guided step: give a timestep."
        )
    signal = _or(signal, AttentionMotionFlow(_recommended(backbone).block))
    latents = backbone.encode(frames[None])
    noise = initial_noise(latents.shape[1:], [clip_generator("video", 0)], backbone.device)
    displacement: Tensor = reference_motion(
        backbone, signal, latents, backbone.embed([""]), ["video"], noise=noise
    ).motion[0]
    return displacement


def transfer_motion(
    backbone: Model,
    clip: Clip,
    prompt: str,
    *,
    negative_prompt: str | None = None,
    seed: int = 0,
    steps: int | None = None,
    guidance_scale: float | None = None,
    guidance: Guidance | None = None,
    keep_reference: bool = False,
    caption: str = "",
    subject: str = "",
    caption_subject: str = "",
) -> Transfer:
    """A video of what the prompt says that moves like the clip.

    `negative_prompt`, `steps`, `guidance_scale` and `guidance` None are those recommended for the
    backbone. `keep_reference` puts the clip's latents into the entry, for key and value injection.
    A signal that reads words needs the clip's `caption`, and takes the words of `subject` in the
    prompt and of `caption_subject` in the caption before its own. Raises ValueError where the
    clip's size, the window or a block does not fit the backbone.

    VAE and text encoder are freed while the clip's motion is optimised, which takes most of the
    memory, and are loaded again when they are needed.
    """
    _check_given("transfer_motion", clip, Clip, "a Clip, as read_video gives one")
    size = VideoSize(len(clip.frames), *clip.frames.shape[-2:])
    backbone.spec.compression.check_motion(size)
    began, advice = time.monotonic(), _recommended(backbone)
    guidance, negative_prompt = (
        _or(guidance, recommended_guidance(backbone)),
        _or(negative_prompt, advice.negative_prompt),
    )
    schedule = backbone.schedule(
        _or(steps, advice.steps), _or(guidance_scale, advice.guidance_scale)
    )
    if guidance.signal is None or not len(guidance.check(backbone, len(schedule))):
        guided = (
            "guidance has no signal"
            if guidance.signal is None
            else f"window {guidance.window} of {len(schedule)} steps guides none of them"
        )
        raise ValueError(
            f"{guided}, so there is no motion to take; for a plain video use ditflow.sampling.loop.sample."
        )
    said: dict[str, Any] = {
        "caption": caption,
        "subject": subject,
        "caption_subject": caption_subject,
    }
    said |= {"container": clip.container, "reader": clip.reader}
    source = Source(clip.path.stem, clip.sha256, prompt, negative_prompt, seed, **said)
    words = words_of(backbone, guidance.signal, [source])
    state = start_guidance(backbone, guidance, size, [source.clip], [seed])
    text, negative, seen = backbone.embed(
        [prompt, negative_prompt, reference_prompt(guidance.signal, source)]
    ).split(1)
    latents = backbone.encode(clip.frames[None])
    reference = reference_motion(
        backbone, guidance.signal, latents, seen, [source.clip], noise=state.noise, words=words
    )
    backbone.release_encoders()
    for _ in schedule:
        state = guided_step(
            backbone, guidance, schedule, state, reference=reference, text=text, negative=negative
        )
    video = backbone.decode(state.latents)[0].cpu()
    (entry,) = entries_of(
        backbone, guidance, schedule, size, state, [source], time.monotonic() - began
    )
    return Transfer(
        video, replace(entry, reference_latents=latents[0].cpu()) if keep_reference else entry
    )


def inject_motion(
    backbone: Model,
    entry: BankEntry,
    prompt: str,
    *,
    seed: int = 0,
    negative_prompt: str | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    guidance: GuidanceKind | None = None,
    injection_blocks: Sequence[int] = (),
) -> Tensor:
    """A new video, uint8 (T, C, Y, X) on the CPU, of what the prompt says with the motion of an
    entry, without its clip.

    `negative_prompt`, `steps`, `guidance_scale` and `guidance` None are the entry's; with another
    number of steps each takes the nearest of the entry's. `injection_blocks` takes keys and values
    from the entry's reference latents. Raises EntryError where the entry does not fit the backbone.

    VAE and text encoder stay loaded for the next video; where memory is short,
    `backbone.release_encoders()` frees them between two.
    """
    check_entry(backbone, entry, injection_blocks)  # before anything is loaded for it
    metadata = entry.metadata
    kind = _or(guidance, cast(GuidanceKind, metadata.guidance))
    schedule = backbone.schedule(
        _or(steps, metadata.steps), _or(guidance_scale, metadata.guidance_scale), kind
    )
    text, negative = backbone.embed([prompt, _or(negative_prompt, metadata.negative_prompt)]).split(
        1
    )
    generators = [clip_generator(prompt, seed)]
    noise = initial_noise(
        backbone.spec.compression.latent_shape(VideoSize(*metadata.size)),
        generators,
        backbone.device,
    )
    return backbone.decode(
        inject(backbone, entry, schedule, noise, text, negative, generators, injection_blocks)
    )[0].cpu()


def inject(
    backbone: Model,
    entry: BankEntry,
    schedule: DenoisingSchedule,
    noise: Tensor,
    text: Tensor,
    negative: Tensor,
    generators: Sequence[torch.Generator],
    injection_blocks: Sequence[int] = (),
) -> Tensor:
    """From initial noise to clean latents (B, F, C, Hl, Wl) with the motion of an entry; `text` and
    `negative` are (b, L, .).
    """
    optimised = check_entry(backbone, entry, injection_blocks)
    start, reference_latents = entry.metadata.window[0], entry.reference_latents
    latents, x0 = noise, None
    for step in schedule:
        position, key_value = None, None
        index = nearest(optimised.timesteps, step.timestep) - start
        if 0 <= index < len(entry.parameters):
            parameter = entry.parameters[index].to(noise)
            variable = VARIABLES[entry.metadata.variable].at(
                backbone, parameter.expand(len(noise), *parameter.shape)
            )
            latents, position = variable.latents(latents), variable.position
            if reference_latents is not None:
                key_value = reference_key_value(
                    backbone, reference_latents.to(noise)[None], noise, step, text, injection_blocks
                )
        latents, x0 = denoise(
            backbone,
            latents,
            step,
            text,
            negative,
            position=position,
            previous_x0=x0,
            generators=generators,
            key_value=key_value,
        )
    return latents


def recommended_guidance(backbone: Model) -> Guidance:
    """How motion is best optimised on a backbone; published or measured."""
    advice = _recommended(backbone)
    return Guidance(
        signal=AttentionMotionFlow(advice.block),
        variable=advice.variable,
        window=advice.window,
        learning_rate=advice.learning_rates[advice.variable],
        injection_blocks=advice.injection_blocks,
        checkpointing=advice.checkpointing,
    )


def _check_given(function: str, given: object, wanted: type, words: str) -> None:
    if not isinstance(given, wanted):
        raise ValueError(f"{function} was given a {type(given).__name__}; it takes {words}.")


def _recommended(backbone: Model) -> Recommendation:
    return recommended(backbone.spec.position, backbone.spec.blocks)


def _or(choice: T | None, advice: T) -> T:
    return advice if choice is None else choice
