"""The motion of a bank entry, put into a generation through its positions."""

# G guided steps, B batch

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from ditflow.core.positions import Positions
from ditflow.core.schedule import Step
from ditflow.models.base import Model
from ditflow.sampling.control import Control, GuidedSteps, Inputs, Prompt
from ditflow.sampling.state import State
from ditflow.sampling.variables import Variable


@dataclass(frozen=True)
class Inject(Control):
    """In each guided step, the parameter that was optimised at it.

    `parameters` (G, ...) are those of a `variable`. `strength` 1 takes them as they are, 0 is the
    model's own positions, and in between is in between.
    """

    variable: type[Variable]
    parameters: Tensor
    guided: GuidedSteps
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise ValueError(f"strength is {self.strength}, but it must be a finite number.")

    def before(
        self, model: Model, step: Step, prompt: Prompt, state: State, inputs: Inputs
    ) -> tuple[State, Inputs]:
        index = self.guided.index(step)
        if index is None:
            return state, inputs
        parameter = self.parameters[index].to(inputs.latents)
        parameter = parameter.expand(len(inputs.latents), *parameter.shape)
        if self.strength != 1:
            own = self.variable.initial(model, inputs.latents)
            parameter = own + self.strength * (parameter - own)
        variable = self.variable.at(model, parameter)
        latents = variable.latents(inputs.latents)
        return state, replace(
            inputs, latents=latents, positions=Positions.everywhere(variable.position)
        )
