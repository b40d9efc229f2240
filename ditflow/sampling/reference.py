"""The reference clips of a batch, and their motion as a signal sees it."""

# B batch (b: 1 or B), R clips shown for each reference, F latent frames, C channels, Hl Wl latent
# rows and columns, L text tokens

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ditflow.models.base import Model, ModelError
from ditflow.motion.base import MotionSignal, Subject, View, Words


@dataclass(frozen=True)
class Reference:
    """What guided steps need to know of the reference clips.

    `latents` (B, F, C, Hl, Wl) are clean; `text` (b, L, .) is the embedding of the prompt that they
    are seen with: the caption for a signal that reads words, and then `words` are there too, else
    the empty prompt. `motion` is what the signal keeps; None where it looks anew at each guided
    step.
    """

    latents: Tensor
    text: Tensor
    words: Words | None = None
    motion: Any = None


class Told(Protocol):
    """What is said of a clip and of the video that is made. An empty subject is the signal's
    own.
    """

    @property
    def prompt(self) -> str: ...
    @property
    def caption(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def caption_subject(self) -> str: ...


def reference_prompt(signal: MotionSignal[Any] | None, told: Told) -> str:
    """The prompt that a signal looks at a clip with. Raises ValueError for a clip without the
    caption that it needs.
    """
    if signal is None or signal.subjects is None:
        return ""
    if not told.caption:
        raise ValueError(
            f"signal {signal.name!r} looks at a clip together with its caption, and none is given: add one that says what the clip shows."
        )
    return told.caption


def words_of(
    backbone: Model, signal: MotionSignal[Any] | None, clips: Sequence[Told]
) -> Words | None:
    """Where the subjects of captions and prompts are, for a signal that reads words. Raises
    ValueError for a text without its subject.
    """
    if signal is None or signal.subjects is None:
        return None
    ours, theirs = zip(*(_subjects(signal.subjects, told) for told in clips), strict=True)
    prompts = backbone.words([told.prompt for told in clips], ours)
    return Words(
        caption=backbone.words([reference_prompt(signal, told) for told in clips], theirs),
        prompt=prompts,
    )


def _subjects(default: tuple[Subject, Subject | None], told: Told) -> tuple[Subject, Subject]:
    """Of the prompt and of the caption."""
    subject = told.subject or default[0]
    return subject, told.caption_subject or (subject if default[1] is None else default[1])


def reference_motion(
    backbone: Model,
    signal: MotionSignal[Any] | None,
    latents: Tensor,
    text: Tensor,
    names: Sequence[str],
    *,
    noise: Tensor,
    words: Words | None = None,
) -> Reference:
    """Look at reference clips once, before the first step. `noise` is the generation's own, as
    published. Warns of a clip that holds no motion.
    """
    reference = Reference(latents, text, words)
    if signal is None or signal.looks.timestep == "match":
        return reference
    motion = motion_of(backbone, signal, reference, noise, timestep=0)
    for name, static in zip(names, signal.is_static(motion).tolist(), strict=True):
        if static:
            warnings.warn(
                f"clip {name!r} has no motion that {signal.name} sees: nothing will be optimised for it.",
                stacklevel=3,
            )
    return replace(reference, motion=motion)


@torch.no_grad()
def motion_of(
    backbone: Model, signal: MotionSignal[Any], reference: Reference, noise: Tensor, timestep: int
) -> Any:
    """The motion that a signal sees, which is `reference.motion` where it has been looked at;
    `timestep` is that of the step, for a signal that asks.
    """
    if reference.motion is not None:
        return reference.motion
    told, level = seen_at(backbone, signal.looks, timestep)
    grid = backbone.spec.compression.grid_of(reference.latents)
    shown = signal.shown(reference.latents, grid)
    copies = len(shown) // len(noise)
    noised = (
        shown
        if level == 0
        else (1 - level) ** 0.5 * shown + level**0.5 * noise.repeat(copies, 1, 1, 1, 1)
    )
    with backbone.tapped(signal.capture, signal.features, stop_early=True) as recording:
        backbone.predict(
            noised,
            told,
            reference.text if len(reference.text) == 1 else reference.text.repeat(copies, 1, 1),
        )
    return signal.reference(recording, grid, reference.words)


def seen_at(backbone: Model, view: View, timestep: int) -> tuple[int, float]:
    """The timestep that the transformer is told, and the share of noise. Raises ModelError for a
    timestep that the scheduler does not have.
    """
    levels = backbone.noise_levels
    told = timestep if view.timestep == "match" else view.timestep
    if told is None:
        told = int((levels - (view.noise or 0.0)).abs().argmin())
    if told >= len(levels):
        raise ModelError(
            f"there is no timestep {told} to look at the reference: those of {backbone.spec.name!r} are 0 to {len(levels) - 1}."
        )
    return told, float(levels[told]) if view.noise is None else view.noise
