"""The reference clips of a batch, and their motion as a signal sees it."""

# B batch (b: 1 or B), R clips shown for each reference, F latent frames, C channels, Hl Wl latent
# rows and columns, L text tokens

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ditflow.core.noise import CLEAN, NoiseLevel, level_of
from ditflow.core.picture import Picture
from ditflow.core.schedule import DenoisingSchedule, GuidanceWindow, Step
from ditflow.models.base import Model
from ditflow.motion.base import MotionSignal, Subject, View, Words
from ditflow.sampling.inversion import inverted
from ditflow.warning import warn


@dataclass(frozen=True)
class Reference:
    """What guided steps need to know of the reference clips.

    `latents` (B, F, C, Hl, Wl) are clean; `text` (b, L, .) is the embedding of the prompt that they
    are seen with: the caption for a signal that reads words, and then `words` are there too, else
    the empty prompt. `motion` is what the signal keeps; None where it looks anew at each guided
    step. `picture` are the clips' own first frames, for a model that takes a picture. `inverted` is
    what a signal that looks at an inverted reference is shown (R*B, ...), by the step's index.
    """

    latents: Tensor
    text: Tensor
    words: Words | None = None
    motion: Any = None
    picture: Picture | None = None
    inverted: Mapping[int, Tensor] = field(default_factory=dict)


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
            f"signal {signal.name!r} looks at a clip together with its caption, and none is given: "
            "add one that says what the clip shows."
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
    picture: Picture | None = None,
) -> Reference:
    """Look at reference clips once, before the first step. `noise` is the generation's own, as
    published. Warns of a clip that holds no motion.
    """
    reference = Reference(latents, text, words, picture=picture)
    if signal is None or signal.looks.anew:
        return reference
    motion = motion_of(backbone, signal, reference, noise)
    for name, static in zip(names, signal.is_static(motion).tolist(), strict=True):
        if static:
            warn(
                f"clip {name!r} has no motion that {signal.name} sees: nothing will be optimised "
                "for it."
            )
    return replace(reference, motion=motion)


@torch.no_grad()
def motion_of(
    model: Model,
    signal: MotionSignal[Any],
    reference: Reference,
    noise: Tensor,
    step: Step | None = None,
) -> Any:
    """The motion that a signal sees in the reference clips.

    It is `reference.motion` where the clips have been looked at. `step` is the guided step, for a
    signal that looks anew at each. Of a model with experts, the one of the guided step looks,
    whatever timestep it is told: before the first step that for much noise, and in its own guided
    steps the other one anew.
    """
    guided = math.inf if step is None else step.timestep
    if reference.motion is not None and not model.expert(guided):
        return reference.motion
    timestep, level = seen_at(model, signal.looks, step)
    shown, text, picture = _shown(model, signal, reference)
    if step is not None and signal.looks.timestep == "inverted":
        assert reference.inverted
        seen = reference.inverted[step.index]
    else:
        seen = level.mix(shown, noise.repeat(len(shown) // len(noise), 1, 1, 1, 1))
    read = signal.capture, signal.features, signal.text
    with model.tapped(*read, stop_early=True, seen_as=guided) as recording:
        model.predict(seen, timestep, text, picture=picture)
    grid = model.spec.compression.grid_of(reference.latents)
    return signal.reference(recording, grid, reference.words)


def run_back(
    model: Model,
    signal: MotionSignal[Any],
    schedule: DenoisingSchedule,
    window: GuidanceWindow,
    reference: Reference,
) -> Reference:
    """The reference with what it is before each guided step, by inversion."""
    shown, text, picture = _shown(model, signal, reference)
    path = inverted(model, schedule, shown, text, picture)
    kept = {step.index: latents for step, latents in path if window.covers(step)}
    return replace(reference, inverted=kept)


def _shown(
    model: Model, signal: MotionSignal[Any], reference: Reference
) -> tuple[Tensor, Tensor, Picture | None]:
    """The clips that a signal must see (R*B, F, C, Hl, Wl), with prompt and picture for each."""
    shown = signal.shown(reference.latents, model.spec.compression.grid_of(reference.latents))
    copies, text = len(shown) // len(reference.latents), reference.text
    picture = None if reference.picture is None else reference.picture.repeated(copies)
    return shown, text if len(text) == 1 else text.repeat(copies, 1, 1), picture


def seen_at(model: Model, view: View, step: Step | None = None) -> tuple[float, NoiseLevel]:
    """The timestep that the transformer is told of a reference, and the noise in it.

    Raises ModelError for a timestep that the scheduler does not have.
    """
    if isinstance(view.timestep, str):
        return (step.timestep, step.level) if step is not None else (0, CLEAN)
    timestep = view.timestep if view.timestep is not None else model.timestep_of(view.noise or 0.0)
    level = model.level(timestep)
    return timestep, level if view.noise is None else level_of(view.noise, model.spec.prediction)
