"""Extract a motion, transfer it, inject it from a bank; and the sources of motion by name."""

# B batch, T pixel frames, C channels, Y X pixel rows, columns, F latent frames, S tokens a frame

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

from torch import Tensor

from ditflow.bank import BankEntry, FieldEntry, Provenance
from ditflow.bank.kinds import AnyEntry
from ditflow.compatibility import Injection, injected
from ditflow.core.schedule import GuidanceKind, Scale
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.raft import raft_flow
from ditflow.fields.sources import DIS, ByAttention, ByFlow, ByTracks, Source, field_of
from ditflow.metrics.base import MetricError
from ditflow.metrics.trackers import CoTracker3, FrameTracker, LucasKanade
from ditflow.models import Model
from ditflow.models.presets import recommended
from ditflow.motion import AttentionMotionFlow
from ditflow.provenance import entries_of
from ditflow.sampling.control import Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.image import check_given, shown
from ditflow.sampling.loop import sample
from ditflow.sampling.recipe import Choices, given_or
from ditflow.sampling.reference import reference_motion, reference_prompt, words_of
from ditflow.sampling.state import clip_generator, initial_noise, start
from ditflow.video import Clip, Image

SourceName = Literal["dis", "raft", "lucas-kanade", "cotracker3", "amf"]


@dataclass(frozen=True)
class Transfer:
    """A new video, uint8 (T, C, Y, X) on the CPU, and what was optimised for it."""

    frames: Tensor
    entry: BankEntry


def extract_motion(
    backbone: Model, frames: Tensor, signal: AttentionMotionFlow | None = None
) -> Tensor:
    """The motion of a video, uint8 (T, C, Y, X): its attention motion flow.

    Gives displacement (F, F, S, 2) of (dx, dy) in tokens, from frame i to frame j, x right and y
    down. `signal` None reads it at the recommended block. Raises ValueError where the video's size
    does not fit the backbone, and for a signal that looks at its reference anew at each step.
    """
    words = "a video's frames, uint8 (T, C, Y, X): of a Clip, its .frames"
    _check_given("extract_motion", frames, Tensor, words)
    backbone.spec.compression.check_motion(VideoSize(len(frames), *frames.shape[-2:]))
    if signal is not None and signal.looks.timestep == "match":
        raise ValueError(
            "extract_motion looks at a video once, and reference_timestep='match' is the timestep "
            "of each guided step: give a timestep."
        )
    signal = given_or(signal, AttentionMotionFlow()).placed(recommended(backbone.spec).block)
    latents = backbone.encode(frames[None])
    noise = initial_noise(latents.shape[1:], [clip_generator("video", 0)], backbone.device)
    text, own = backbone.embed([""]), backbone.look(frames[:1], len(frames))
    seen = reference_motion(backbone, signal, latents, text, ["video"], noise=noise, picture=own)
    displacement: Tensor = seen.motion[0]
    return displacement


def extract_motion_field(
    clip: Clip, source: SourceName = "dis", backbone: Model | None = None
) -> MotionField:
    """The motion of a clip as a value that any backbone can use: see `MotionField`.

    It is measured by a `source`, as `source_of` says; amf alone needs a `backbone`. Raises
    FieldError for a source whose needs are missing. Warns and refuses clips as `field_of` says.
    """
    _check_given("extract_motion_field", clip, Clip, "a Clip, as read_video gives one")
    return field_of(clip.frames, source_of(source, backbone), clip.path.stem)


def source_of(name: str, backbone: Model | None = None) -> Source:
    """The source of motion fields of that name.

    "dis" and "raft" are optical flow, by OpenCV and by torchvision. "lucas-kanade" and "cotracker3"
    track points. "amf" is the motion that a backbone sees in a clip of a size that it takes. Raises
    FieldError where what it needs is not installed or not given.
    """
    match name:
        case "dis":
            return DIS
        case "raft":
            return ByFlow(name, raft_flow())
        case "lucas-kanade":
            return _by_tracks(LucasKanade())
        case "cotracker3":
            try:
                return _by_tracks(CoTracker3())
            except MetricError as error:
                raise FieldError(str(error)) from error
        case "amf":
            if backbone is None:
                raise FieldError(
                    "source 'amf' is the motion that a backbone sees, and none is given: give one "
                    "(`ditflow motion` takes `--backbone NAME`), or use source 'dis'."
                )
            look, compression = partial(extract_motion, backbone), backbone.spec.compression
            return ByAttention(f"amf of {backbone.spec.name}", look, compression)
    known = ", ".join(get_args(SourceName))
    raise FieldError(f"unknown source {name!r} of a motion field; there are {known}.")


def transfer_motion(
    backbone: Model,
    clip: Clip,
    prompt: str,
    *,
    image: Image | None = None,
    negative_prompt: str | None = None,
    seed: int = 0,
    steps: int | None = None,
    guidance_scale: Scale | None = None,
    motion_guidance: MotionGuidance | None = None,
    keep_reference: bool = False,
    caption: str = "",
    subject: str = "",
    caption_subject: str = "",
) -> Transfer:
    """A video of what the prompt says that moves like the clip.

    Arguments that are None take the values recommended for the backbone. `guidance_scale` may be a
    pair, for experts of much and of little noise. `motion_guidance` says how the motion is
    optimised. `keep_reference` stores the clip's latents in the entry, for key and
    value injection. A signal that reads words needs the clip's `caption`. The words of `subject` in
    the prompt, and of `caption_subject` in the caption, replace the signal's own. Raises ValueError
    where the clip's size, the window or a block does not fit the backbone.

    An image-to-video model begins the video with `image`, and looks at the clip with the clip's own
    first frame.

    VAE and text encoder are freed while the motion is optimised, which takes most of the memory.
    They are loaded again when they are needed.
    """
    _check_given("transfer_motion", clip, Clip, "a Clip, as read_video gives one")
    size = VideoSize(len(clip.frames), *clip.frames.shape[-2:])
    backbone.spec.compression.check_motion(size)
    check_given("transfer_motion", backbone.spec, image)
    began = time.monotonic()
    recipe = Choices(steps=steps, guidance_scale=guidance_scale).on(backbone, motion_guidance)
    guidance, schedule = recipe.guidance, recipe.schedule
    if guidance.signal is None:
        raise ValueError(
            "motion_guidance has no signal, so there is no motion to take; for a plain video use "
            "ditflow.sampling.loop.sample."
        )
    negative_prompt = given_or(negative_prompt, recipe.negative_prompt)
    source = Provenance(
        clip=clip.path.stem,
        clip_sha256=clip.sha256,
        container=clip.container,
        reader=clip.reader,
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=seed,
        caption=caption,
        subject=subject,
        caption_subject=caption_subject,
        image_sha256="" if image is None else image.sha256,
    )
    words = words_of(backbone, guidance.signal, [source])
    fields = [extract_motion_field(clip)] if guidance.follows else []
    state = guidance.start(backbone, size, [source.clip], [seed], fields)
    seen_with = reference_prompt(guidance.signal, source)
    text, negative, seen = backbone.embed([prompt, negative_prompt, seen_with]).split(1)
    latents, own = backbone.encode(clip.frames[None]), backbone.look(clip.frames[:1], size.frames)
    picture = shown(backbone, image, size)
    control = recipe.control(latents, seen, [source.clip], state.noise, words, own)
    backbone.release_encoders()
    state = sample(backbone, schedule, Prompt(text, negative, picture), state, control)
    video = backbone.decode(state.latents)[0].cpu()
    seconds = time.monotonic() - began
    (entry,) = entries_of(recipe, size, state, [source], seconds)
    kept = latents[0].cpu() if keep_reference else None
    return Transfer(video, replace(entry, reference_latents=kept))


def inject_motion(
    backbone: Model,
    motion: AnyEntry | MotionField,
    prompt: str,
    *,
    image: Image | None = None,
    seed: int = 0,
    negative_prompt: str | None = None,
    steps: int | None = None,
    guidance_scale: Scale | None = None,
    guidance_kind: GuidanceKind | None = None,
    size: VideoSize | None = None,
    how: Injection | None = None,
) -> Tensor:
    """A new video of what the prompt says, with the motion of a bank entry or of a motion field:
    uint8 (T, C, Y, X) on the CPU. The clip is not needed.

    Arguments that are None take the entry's values, or for a field those recommended for the
    backbone. With another number of steps, each step uses an optimised entry's nearest one. A field
    is spread over the frames of the `size`. `how` the motion acts, and how strongly, is an
    `Injection`. The video begins with `image`, where the model takes one. Raises EntryError where
    the entry does not fit the backbone.

    VAE and text encoder stay loaded for the next video. Where memory is short, free them between
    two videos with `backbone.release_encoders()`.
    """
    kinds = (BankEntry, FieldEntry, MotionField)
    _check_given("inject_motion", motion, kinds, "a bank entry or a MotionField")
    check_given("inject_motion", backbone.spec, image)
    # the entry is checked before anything is loaded for it
    ready = injected(backbone, motion, given_or(how, Injection()), size)
    schedule = backbone.schedule(
        given_or(steps, ready.steps),
        given_or(guidance_scale, ready.guidance_scale),
        guidance_kind or ready.guidance,
    )
    negative_prompt = given_or(negative_prompt, ready.negative_prompt)
    text, negative = backbone.embed([prompt, negative_prompt]).split(1)
    state = start(backbone, ready.size, [prompt], [seed])
    picture = shown(backbone, image, ready.size)
    state = sample(backbone, schedule, Prompt(text, negative, picture), state, ready.control)
    return backbone.decode(state.latents)[0].cpu()


def recommended_guidance(backbone: Model) -> MotionGuidance:
    """The recommended way to optimise motion on a backbone, as published or measured."""
    return Choices().motion_guidance(backbone)


def _by_tracks(tracker: FrameTracker) -> Source:
    def track(frames: Tensor) -> tuple[Tensor, Tensor]:
        tracks = tracker(frames)
        return tracks.positions, tracks.seen

    return ByTracks(tracker.name, track)


def _check_given(function: str, given: object, wanted: type | tuple[type, ...], words: str) -> None:
    if not isinstance(given, wanted):
        raise ValueError(f"{function} was given a {type(given).__name__}; it takes {words}.")
