"""Videos with motions of a bank, made one at a time or several at once.

A draft is all that a video needs before it is denoised. Drafts that share size and schedule are
denoised as one batch, and each gives the video that it gives alone.
"""

# T pixel frames, C channels, Y X pixel rows and columns

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ditflow.bank import BankEntry, FieldEntry
from ditflow.bank.kinds import AnyEntry
from ditflow.compatibility.injection import Injection
from ditflow.compatibility.ready import injected
from ditflow.core.given import check_kind
from ditflow.core.schedule import GuidanceKind, Scale
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import MotionField
from ditflow.fields.operations import anchored
from ditflow.models import Model
from ditflow.sampling.control import Prompt
from ditflow.sampling.image import check_given, shown
from ditflow.sampling.loop import Draft, OnStep, sample
from ditflow.sampling.recipe import given_or
from ditflow.sampling.state import start
from ditflow.video import Image


def draft_injection(
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
) -> Draft:
    """The draft of a video with a motion; arguments are those of `inject_motion`, which raise what
    they raise there.
    """
    kinds = (BankEntry, FieldEntry, MotionField)
    check_kind("inject_motion", motion, kinds, "a bank entry or a MotionField")
    check_given("inject_motion", backbone.spec, image)
    if image is not None and not isinstance(motion, BankEntry):
        motion = anchored(motion if isinstance(motion, MotionField) else motion.field, 0)
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
    told = Prompt(text, negative, shown(backbone, image, ready.size))
    return Draft(schedule, told, state, ready.control)


def videos_of(
    backbone: Model, drafts: Sequence[Draft], on_step: OnStep | None = None
) -> list[Tensor]:
    """The videos of drafts, denoised as one batch: uint8 (T, C, Y, X) each, on the CPU.

    `on_step` is told of the steps of the batch. Raises ValueError for drafts that cannot share one.
    """
    state = sample(backbone, *Draft.together(drafts), on_step)
    return [backbone.decode(latents)[0].cpu() for latents in state.latents.split(1)]
