"""Optimising motion while denoising: the method.

Pondaven et al., CVPR 2025 (2412.07776), section 4.2: at each step of a window, K updates of a
variable pull the motion of what is being generated towards the reference's, then one step is taken
with it. Adam is fresh at each step. The variable keeps its value from one guided step to the next;
after the last, the model uses its own positions again. The other updates are those of the methods
that are compared: plain gradient descent, and MotionClone's score guidance.
"""

# B batch (b: 1 or B), K inner steps, F latent frames, C channels, Hl Wl latent rows and columns,
# L text tokens

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ditflow.core.schedule import DenoisingSchedule, Step
from ditflow.models.base import Model
from ditflow.sampling.control import Control, Controls, GuidedSteps, Inputs, Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.key_value import ReferenceKeyValue
from ditflow.sampling.placement import Placement, placed
from ditflow.sampling.reference import Reference, motion_of, run_back
from ditflow.sampling.savings import Kept, Updates
from ditflow.sampling.state import State
from ditflow.sampling.variables import Variable

# of a float16 model's loss on its way back, as published: most gradients are too small for float16
LOSS_SCALE = 2.0**16


def motion_control(
    model: Model,
    guidance: MotionGuidance,
    schedule: DenoisingSchedule,
    reference: Reference,
    begins: int = 0,
) -> Control:
    """The whole method on a schedule, from the step at which it begins: keys and values of the
    reference, then the optimisation.

    Raises ValueError where the guidance does not fit the model.
    """
    guided = GuidedSteps(schedule, guidance.check(model, schedule))
    blocks = guidance.injection_blocks
    keys = ReferenceKeyValue(reference.latents, blocks, guided, reference.picture)
    if guidance.signal is None:
        return keys
    if guidance.signal.looks.timestep == "inverted" and begins < guided.window.stop:
        reference = run_back(model, guidance.signal, schedule, guided.window, reference)
    return Controls((keys, Optimise(guidance, reference, guided)))


@dataclass(frozen=True)
class Optimise(Control):
    """In the guided steps, K updates of the variable before the step is taken with it."""

    guidance: MotionGuidance
    reference: Reference
    guided: GuidedSteps

    def before(
        self, model: Model, step: Step, prompt: Prompt, state: State, inputs: Inputs
    ) -> tuple[State, Inputs]:
        guidance = self.guidance
        if self.guided.index(step) is None:
            return state, inputs
        assert guidance.signal is not None and state.parameter is not None
        motion = motion_of(model, guidance.signal, self.reference, state.noise, step)
        variable = guidance.kind.at(model, state.parameter).carried(inputs.latents)
        kept = None
        if state.gradient is not None and state.pace is not None:
            last = state.losses[-1][-1].to(state.gradient.device)
            kept = Kept(state.gradient, last, state.pace)
        updated, losses, kept = guide(
            model, guidance, variable, inputs, step, self._rate(step), prompt, motion, kept
        )
        correction = None
        if guidance.update == "score":
            correction = updated.parameter - inputs.latents
        else:
            variable = updated
        state = replace(
            state,
            parameter=variable.parameter,
            history=(*state.history, variable.parameter.cpu()),
            losses=(*state.losses, losses.cpu()),
            gradient=None if kept is None else kept.gradient,
            pace=None if kept is None else kept.pace,
        )
        placement = Placement(guidance.passes)
        return state, replace(
            inputs,
            latents=variable.latents(inputs.latents),
            positions=placed(variable, model, inputs.latents, placement, step),
            correction=correction,
        )

    def _rate(self, step: Step) -> float:
        rate = self.guided.window.learning_rate(step, self.guidance.learning_rate)
        return rate * score_scale(step) if self.guidance.update == "score" else rate


def score_scale(step: Step) -> float:
    """How strongly the score acts: the product of the noise in both levels."""
    return step.level.noise * step.next_level.noise


@torch.enable_grad()
def guide(
    model: Model,
    guidance: MotionGuidance,
    variable: Variable,
    inputs: Inputs,
    step: Step,
    learning_rate: float,
    prompt: Prompt,
    motion: Any,
    kept: Kept | None = None,
) -> tuple[Variable, Tensor, Kept | None]:
    """K updates of the variable at one step, the losses (K, B) before each, and what later steps
    are spared by, where savings want it.

    Clips are independent: their losses are summed. Through a float16 model each clip's loss goes
    back multiplied by a power of two, and its gradient is divided by it in float32.
    """
    signal, grid = guidance.signal, model.spec.compression.grid_of(inputs.latents)
    text, picture = prompt.text, prompt.picture
    assert signal is not None
    parameter = variable.parameter.clone().requires_grad_()
    algorithm = torch.optim.Adam if guidance.update == "adam" else torch.optim.SGD
    optimizer = algorithm([parameter], lr=learning_rate)
    power = LOSS_SCALE if model.dtype == torch.float16 else 1.0
    scale = torch.full(parameter.shape[:1], power, device=parameter.device)
    updates = Updates(guidance.savings, kept)
    with model.tapped(
        signal.capture,
        signal.features,
        signal.text,
        stop_early=True,
        key_value=inputs.key_value,
        checkpointing=guidance.checkpointing,
    ) as recording:
        while len(updates.losses) < guidance.inner_steps:
            if updates.due:
                current = variable.replaced(parameter)
                latents = current.latents(inputs.latents)
                model.predict(latents, step.timestep, text, current.position, picture)
                loss = guidance.savings.loss(signal, recording, grid, motion)
                if updates.stop(loss.detach()):
                    break
                gradient, scale = _gradient(loss, parameter, scale)
                updates.keep(loss.detach(), gradient)
                # it may hold what was kept for the backward pass, while the next forward pass runs
                del loss
            updates.take(optimizer, parameter)
    rest = guidance.inner_steps - len(updates.losses)
    losses = torch.stack(updates.losses + updates.losses[-1:] * rest)
    kept = updates.kept if guidance.savings.reuse > 1 else None
    return variable.replaced(parameter.detach()), losses, kept


def _gradient(loss: Tensor, parameter: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Of each clip's loss (B,) at its row of the parameter, and the scales (B,), powers of two,
    that it went back with: halved where it overflows.
    """
    while True:
        (gradient,) = torch.autograd.grad(
            (loss * scale).sum(), parameter, retain_graph=bool(scale.max() > 1)
        )
        overflows = (scale > 1) & loss.isfinite() & ~gradient.flatten(1).isfinite().all(dim=1)
        if not overflows.any():
            return gradient / scale.view(-1, *[1] * (gradient.ndim - 1)), scale
        scale = scale.where(~overflows, scale / 2)
