"""The denoising loop: one for plain generation and for everything that acts on it.

Everything random comes from a generator of the clip's own, so that no clip depends on its batch.
"""

# B batch (b: 1 or B), F latent frames, C channels, Hl Wl latent rows and columns

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Self

import torch

from ditflow.core.schedule import DenoisingSchedule, Step
from ditflow.models.base import Model
from ditflow.sampling.control import NOTHING, Control, Each, Inputs, Prompt
from ditflow.sampling.state import State, generators_of, states_of

OnStep = Callable[[int, int], None]
"""Told after each step how many are done, and of how many. What it raises ends the generation."""


@torch.no_grad()
def denoising_step(
    model: Model, step: Step, prompt: Prompt, state: State, control: Control = NOTHING
) -> State:
    """One step with classifier-free guidance, and whatever the control changes around it."""
    state, inputs = control.before(model, step, prompt, state, Inputs(state.latents))
    generators = generators_of(state.generators)
    with model.tapped(key_value=inputs.key_value):
        text, negative, picture = prompt
        output = model.guided(inputs.latents, step, text, negative, inputs.positions, picture)
    latents, memory = model.advance(output, step, inputs.latents, state.memory, generators)
    if inputs.correction is not None:
        latents = latents + inputs.correction
    state = replace(
        state,
        step=step.index + 1,
        latents=latents,
        memory=memory,
        generators=states_of(generators),
    )
    return control.after(model, step, state)


def sample(
    model: Model,
    schedule: DenoisingSchedule,
    prompt: Prompt,
    state: State,
    control: Control = NOTHING,
    on_step: OnStep | None = None,
) -> State:
    """All steps that are left, from noise (or wherever the state has come to) to clean latents."""
    for index in range(state.step, len(schedule)):
        state = denoising_step(model, schedule[index], prompt, state, control)
        if on_step is not None:
            on_step(state.step, len(schedule))
    return state


class Draft(NamedTuple):
    """A video before it is denoised, or several of them in one batch: all that `sample` takes."""

    schedule: DenoisingSchedule
    prompt: Prompt
    state: State
    control: Control = NOTHING

    @property
    def alike(self) -> tuple[object, ...]:
        """What drafts have in common that are denoised together."""
        shape, picture = self.state.latents.shape[1:], self.prompt.picture
        return self.schedule, self.state.step, shape, [x is None for x in picture or ()]

    @classmethod
    def together(cls, drafts: Sequence[Self]) -> Self:
        """Drafts of one video each as one batch, in which none depends on another.

        Raises ValueError for drafts that differ in size or schedule, or of which some begin with a
        picture.
        """
        first, *others = drafts
        if not others:
            return first
        if any(draft.alike != first.alike for draft in others):
            raise ValueError(
                "videos are made together that share their size, their steps with their guidance, "
                "and whether they begin with a picture: make those that differ by themselves."
            )
        prompt, state = Prompt.stacked([x.prompt for x in drafts]), [x.state for x in drafts]
        control = Each(tuple(draft.control for draft in drafts))
        return cls(first.schedule, prompt, State.stacked(state), control)
