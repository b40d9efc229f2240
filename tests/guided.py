"""One guided step, as the tests take it."""

from __future__ import annotations

import torch
from torch import Tensor

from ditflow.core.picture import Picture
from ditflow.core.schedule import DenoisingSchedule
from ditflow.models import Model
from ditflow.sampling.control import NOTHING, Control, Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.loop import denoising_step, sample
from ditflow.sampling.optimise import motion_control
from ditflow.sampling.reference import Reference
from ditflow.sampling.state import State
from tests.registry import picture_for


def guided_step(
    model: Model,
    guidance: MotionGuidance,
    schedule: DenoisingSchedule,
    state: State,
    *,
    reference: Reference,
    text: Tensor,
    negative: Tensor,
) -> State:
    control = motion_control(model, guidance, schedule, reference)
    prompt = Prompt(text, negative, picture_for(model, state.latents))
    return denoising_step(model, schedule[state.step], prompt, state, control)


def sampled(
    model: Model,
    schedule: DenoisingSchedule,
    noise: Tensor,
    text: Tensor,
    negative: Tensor,
    generators: list[torch.Generator],
    control: Control = NOTHING,
    picture: Picture | None = None,
) -> Tensor:
    """Clean latents of a whole generation."""
    state = State.begin(noise, generators)
    return sample(model, schedule, Prompt(text, negative, picture), state, control).latents
