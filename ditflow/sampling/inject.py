"""Motion put into a generation through its positions: a bank entry's, or a motion field."""

# G guided steps, B batch (b: 1 or B), F latent frames or token times, H W token rows and columns,
# Hl Wl latent rows and columns

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ditflow.core.positions import Positions
from ditflow.core.schedule import Step, Window, in_window
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import MotionField
from ditflow.fields.noise import check_share, on_latents
from ditflow.fields.positions import displaced, on_tokens
from ditflow.models.base import Model
from ditflow.sampling.control import (
    Control,
    Controls,
    GuidedSteps,
    Inputs,
    PositionControl,
    Prompt,
)
from ditflow.sampling.placement import Placement, placed
from ditflow.sampling.state import State, carry
from ditflow.sampling.variables import Variable


@dataclass(frozen=True)
class Inject(PositionControl):
    """In each guided step, the parameter that was optimised at it.

    `parameters` (G, ...) are those of a `variable`.
    """

    variable: type[Variable]
    parameters: Tensor
    guided: GuidedSteps
    placement: Placement = Placement(passes="both")

    def positions(self, model: Model, step: Step, latents: Tensor) -> Positions | None:
        variable = self._optimised(model, step, latents)
        return None if variable is None else placed(variable, model, latents, self.placement, step)

    def before(
        self, model: Model, step: Step, prompt: Prompt, state: State, inputs: Inputs
    ) -> tuple[State, Inputs]:
        if self.variable.needs is not None:
            return super().before(model, step, prompt, state, inputs)
        if (variable := self._optimised(model, step, inputs.latents)) is None:
            return state, inputs
        moved = variable.towards(model, inputs.latents, self.placement.strength)
        latents = moved.latents(inputs.latents)
        return state, replace(inputs, latents=latents, positions=Positions())

    def _optimised(self, model: Model, step: Step, latents: Tensor) -> Variable | None:
        """The variable as it was at a guided step, a row for each clip."""
        if (index := self.guided.index(step)) is None:
            return None
        parameter = self.parameters[index].to(latents)
        return self.variable.at(model, parameter.expand(len(latents), *parameter.shape))


@dataclass(frozen=True)
class Follow(PositionControl):
    """In the guided steps, each token is at the place where its content was at the start.

    `displacement` (b, F, 2, H, W) is a motion field's on the token grid. `window` says in
    which steps.
    """

    displacement: Tensor
    window: Window
    placement: Placement = Placement()

    def positions(self, model: Model, step: Step, latents: Tensor) -> Positions | None:
        if not in_window(self.window, step):
            return None
        stock = model.positions(model.spec.compression.grid_of(latents))
        displacement = self.displacement.to(stock)

        def place(amount: float) -> Tensor:
            return model.position_at(displaced(stock, displacement, amount))

        return self.placement.positions(place, step)


@dataclass(frozen=True)
class CarriedNoise(Control):
    """Before the first step, the initial noise of the first frame moves along.

    `displacement` (b, F, 2, Hl, Wl) is a motion field's on the latents; `share` as for
    `ditflow.fields.noise.carried`.
    """

    displacement: Tensor
    share: float

    def before(
        self, model: Model, step: Step, prompt: Prompt, state: State, inputs: Inputs
    ) -> tuple[State, Inputs]:
        if step.index:
            return state, inputs
        state = carry(state, self.displacement, self.share)
        return state, replace(inputs, latents=state.latents)


@dataclass(frozen=True)
class Instant:
    """How a motion field moves a generation.

    Tokens follow it in the steps of `window`, as of a `MotionGuidance`.
    `noise_share` of the initial noise's variance moves along; 0 leaves the noise as it is. A
    strength below 1 takes less of it, and moves it less far.
    """

    window: Window = 0.8
    noise_share: float = 0.25
    placement: Placement = Placement()

    def control(self, model: Model, size: VideoSize, fields: Sequence[MotionField]) -> Control:
        """The control of a generation of that size, a field for each clip.

        Raises ValueError for a noise share beyond 0 to 1.
        """
        check_share(self.noise_share)
        compression, strength = model.spec.compression, self.placement.strength
        share = self.noise_share * min(abs(strength), 1)
        return Controls(
            (
                CarriedNoise(strength * on_latents(fields, compression, size), share),
                Follow(on_tokens(fields, compression, size), self.window, self.placement),
            )
        )
