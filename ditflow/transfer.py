"""Transfer the motion of a clip to a new video, and inject it from a bank."""

# T pixel frames, C channels, Y X pixel rows and columns

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ditflow.bank import BankEntry, Provenance
from ditflow.bank.kinds import AnyEntry
from ditflow.compatibility import Injection, draft_injection, videos_of
from ditflow.core.given import check_kind
from ditflow.core.schedule import GuidanceKind, Scale
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.sources import field_of
from ditflow.models import Model
from ditflow.provenance import entries_of, moving
from ditflow.sampling.control import Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.image import check_given, shown
from ditflow.sampling.loop import OnStep, sample
from ditflow.sampling.recipe import Choices, Recipe, given_or
from ditflow.sampling.reference import reference_prompt, words_of
from ditflow.video import Clip, Image


@dataclass(frozen=True)
class Transfer:
    """A new video, uint8 (T, C, Y, X) on the CPU, and what was optimised for it."""

    frames: Tensor
    entry: BankEntry


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

    The video begins with `image`, where the model takes one, and then the model looks at the clip
    with the clip's own first frame.

    VAE and text encoder are freed while the motion is optimised, which takes most of the memory.
    They are loaded again when they are needed.
    """
    check_kind("transfer_motion", clip, Clip, "a Clip, as read_video gives one")
    size = VideoSize(len(clip.frames), *clip.frames.shape[-2:])
    backbone.spec.compression.check_motion(size)
    check_given("transfer_motion", backbone.spec, image)
    recipe = Choices(steps=steps, guidance_scale=guidance_scale).on(backbone, motion_guidance)
    if recipe.guidance.signal is None:
        raise ValueError(
            "motion_guidance has no signal, so there is no motion to take; for a plain video use "
            "ditflow.sampling.loop.sample."
        )
    source = Provenance(
        clip=clip.path.stem,
        clip_sha256=clip.sha256,
        container=clip.container,
        reader=clip.reader,
        prompt=prompt,
        negative_prompt=given_or(negative_prompt, recipe.negative_prompt),
        seed=seed,
        caption=caption,
        subject=subject,
        caption_subject=caption_subject,
        image_sha256="" if image is None else image.sha256,
    )
    return _transferred(recipe, size, clip, source, image, keep_reference=keep_reference)


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
    on_step: OnStep | None = None,
) -> Tensor:
    """A new video of what the prompt says, with the motion of a bank entry or of a motion field:
    uint8 (T, C, Y, X) on the CPU. The clip is not needed.

    Arguments that are None take the entry's values, or for a field those recommended for the
    backbone. With another number of steps, each step uses an optimised entry's nearest one. A field
    is spread over the frames of the `size`. `how` the motion acts, and how strongly, is an
    `Injection`. The video begins with `image`, where the model takes one, and a field says how its
    content moves: it is told from the first frame. `on_step` is told after each denoising step how
    many are done, and of how many; what it raises ends the generation. Raises EntryError where the
    entry does not fit the backbone.

    For several at once, see `ditflow.compatibility.drafts`.

    VAE and text encoder stay loaded for the next video. Where memory is short, free them between
    two videos with `backbone.release_encoders()`.
    """
    asked: Any = dict(seed=seed, negative_prompt=negative_prompt, steps=steps, size=size, how=how)
    asked |= dict(image=image, guidance_scale=guidance_scale, guidance_kind=guidance_kind)
    draft = draft_injection(backbone, motion, prompt, **asked)
    return videos_of(backbone, [draft], on_step)[0]


def recommended_guidance(backbone: Model) -> MotionGuidance:
    """The recommended way to optimise motion on a backbone, as published or measured."""
    return Choices().motion_guidance(backbone)


def _transferred(
    recipe: Recipe,
    size: VideoSize,
    clip: Clip,
    source: Provenance,
    image: Image | None,
    *,
    keep_reference: bool,
) -> Transfer:
    """From noise to the video, past the clip: all that is asked is in the recipe and the source."""
    began, names = time.monotonic(), [source.clip]
    backbone, guidance = recipe.backbone, recipe.guidance
    words = words_of(backbone, guidance.signal, [source])
    field = _motion_of(clip, needed=guidance.follows)
    followed = [field] if guidance.follows and field is not None else []
    state = guidance.start(backbone, size, names, [source.seed], followed)
    said = source.prompt, source.negative_prompt, reference_prompt(guidance.signal, source)
    text, negative, seen_with = backbone.embed(said).split(1)
    latents = backbone.encode(clip.frames[None])
    prompt = Prompt(text, negative, shown(backbone, image, size))
    first = None if image is None else backbone.look(clip.frames[:1], size.frames)
    control = recipe.control(latents, seen_with, names, state.noise, words, first)
    backbone.release_encoders()
    state = sample(backbone, recipe.schedule, prompt, state, control)
    video = backbone.decode(state.latents)[0].cpu()
    (entry,) = entries_of(recipe, size, state, [source], time.monotonic() - began)
    kept = latents[0].cpu() if keep_reference else None
    return Transfer(video, replace(moving(entry, field), reference_latents=kept))


def _motion_of(clip: Clip, *, needed: bool) -> MotionField | None:
    """What an entry keeps of its clip, so that it can be found; None for a clip that cannot be
    followed and need not be.
    """
    if needed:
        return field_of(clip.frames, clip=clip.path.stem)
    with suppress(FieldError), warnings.catch_warnings(action="ignore"):
        return field_of(clip.frames, clip=clip.path.stem)
    return None
