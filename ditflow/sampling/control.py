"""What can act on a generation: one small value for each way, and a sequence of them.

A control sees each denoising step twice. `before` may change what is denoised: the latents, the
positions, the keys and values. `after` may change what came of it. Optimising motion, injecting an
entry and keeping a reference's keys and values are controls; plain generation has none.
"""

# B batch (b: 1 or B), F latent frames, C channels, Hl Wl latent rows and columns, L text tokens

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from ditflow.core.noise import NoiseLevel
from ditflow.core.picture import Picture
from ditflow.core.positions import Positions
from ditflow.core.schedule import DenoisingSchedule, GuidanceWindow, Step
from ditflow.core.tokens import KeyValue
from ditflow.models.base import Model
from ditflow.sampling.state import State


class Prompt(NamedTuple):
    """Embeddings of the prompt and of the negative prompt, (b, L, .) each, and the picture that the
    video begins with, for a model that takes one.
    """

    text: Tensor
    negative: Tensor
    picture: Picture | None = None

    @classmethod
    def stacked(cls, prompts: Sequence[Self]) -> Self:
        """The prompts of a batch, one after the other."""
        text, negative, pictures = zip(*prompts, strict=True)
        return cls(torch.cat(text), torch.cat(negative), Picture.stacked(pictures))

    def row(self, index: int) -> Self:
        """That of one clip of a batch; one for all stays one."""
        text, negative = (
            x if len(x) == 1 else x[index : index + 1] for x in (self.text, self.negative)
        )
        picture = None if self.picture is None else self.picture.row(index)
        return self._replace(text=text, negative=negative, picture=picture)


@dataclass(frozen=True)
class Inputs:
    """What one step denoises with.

    `latents` are (B, F, C, Hl, Wl). `positions` say where the tokens are in each pass; `key_value`
    acts on all passes. `correction` is added to the latents after the scheduler's step.
    """

    latents: Tensor
    positions: Positions = Positions()
    key_value: KeyValue = field(default_factory=dict)
    correction: Tensor | None = None


class Control:
    """Changes nothing; a subclass says what it changes before and after a step."""

    def before(
        self, model: Model, step: Step, prompt: Prompt, state: State, inputs: Inputs
    ) -> tuple[State, Inputs]:
        """The state and the inputs that the step is taken with."""
        return state, inputs

    def after(self, model: Model, step: Step, state: State) -> State:
        """The state that the next step starts from."""
        return state


class PositionControl(Control):
    """Says where the tokens are in the passes of a step. It needs nothing else of a generation, so
    it acts on that of another sampler too.
    """

    @abstractmethod
    def positions(self, model: Model, step: Step, latents: Tensor) -> Positions | None:
        """Where tokens of latents (B, F, C, Hl, Wl) are; None leaves them as they are."""

    def before(
        self, model: Model, step: Step, prompt: Prompt, state: State, inputs: Inputs
    ) -> tuple[State, Inputs]:
        positions = self.positions(model, step, inputs.latents)
        return state, inputs if positions is None else replace(inputs, positions=positions)


@dataclass(frozen=True)
class Controls(Control):
    """Several controls, one after the other: each sees what the one before it has made."""

    controls: tuple[Control, ...]

    def before(
        self, model: Model, step: Step, prompt: Prompt, state: State, inputs: Inputs
    ) -> tuple[State, Inputs]:
        for control in self.controls:
            state, inputs = control.before(model, step, prompt, state, inputs)
        return state, inputs

    def after(self, model: Model, step: Step, state: State) -> State:
        for control in self.controls:
            state = control.after(model, step, state)
        return state


@dataclass(frozen=True)
class Each(Control):
    """A control of its own for each clip of a batch, which sees that clip alone.

    It acts first. Where some clips are moved in a step and others are not, these are where the
    model puts them itself. Raises ValueError where clips do not share their motion scale, or the
    blocks that take keys and values.
    """

    controls: tuple[Control, ...]

    def before(
        self, model: Model, step: Step, prompt: Prompt, state: State, inputs: Inputs
    ) -> tuple[State, Inputs]:
        rows = zip(self.controls, state.rows(), inputs.latents.split(1), strict=True)
        states, each = zip(
            *(
                control.before(model, step, prompt.row(index), row, Inputs(latents))
                for index, (control, row, latents) in enumerate(rows)
            ),
            strict=True,
        )
        return State.stacked(states), _stacked(model, each)

    def after(self, model: Model, step: Step, state: State) -> State:
        rows = zip(self.controls, state.rows(), strict=True)
        return State.stacked([control.after(model, step, row) for control, row in rows])


def _stacked(model: Model, each: Sequence[Inputs]) -> Inputs:
    """The inputs of a batch, from those of its clips."""
    latents, positions = torch.cat([one.latents for one in each]), [one.positions for one in each]
    blocks = {frozenset(one.key_value) for one in each}
    scales = {own.motion_scale for own in positions if own.conditional is not None}
    if len(blocks) > 1 or len(scales) > 1:
        raise ValueError(
            "clips of one batch share their motion scale, and the blocks that take keys and values "
            "in a step: make those that differ by themselves."
        )

    def placed(rows: Sequence[Tensor | None]) -> Tensor | None:
        if all(row is None for row in rows):
            return None
        stock = model.stock_position(model.spec.compression.grid_of(latents))
        return torch.cat([stock if row is None else row for row in rows])

    conditional, unconditional = (
        placed(side) for side in zip(*(own[:2] for own in positions), strict=True)
    )
    key_value = {
        block: (
            torch.cat([one.key_value[block][0] for one in each]),
            torch.cat([one.key_value[block][1] for one in each]),
        )
        for block in sorted(blocks.pop())
    }
    scale = scales.pop() if scales else None
    return Inputs(latents, Positions(conditional, unconditional, scale), key_value)


@dataclass(frozen=True)
class GuidedSteps:
    """A window on a schedule, found again on any other schedule by the nearest noise level."""

    schedule: DenoisingSchedule
    window: GuidanceWindow

    @classmethod
    def of_levels(
        cls,
        timesteps: Sequence[float],
        levels: Sequence[NoiseLevel],
        before: NoiseLevel | None,
        after: NoiseLevel,
    ) -> GuidedSteps:
        """Guided steps of another scheduler's, by their noise.

        The levels of the steps `before` and `after` them tell where the window ends; None where it
        begins with the first step.
        """
        above = () if before is None else (before,)
        told = (*(math.inf for _ in above), *timesteps, -math.inf)
        start = len(above)
        whole = DenoisingSchedule(told, (*above, *levels, after))
        return cls(whole, GuidanceWindow(start, start + len(levels)))

    def index(self, step: Step) -> int | None:
        """Which of the guided steps this step is, counted from 0; None outside of the window."""
        index = self.schedule.nearest(step.level)
        covered = self.window.covers(self.schedule[index])
        return index - self.window.start if covered else None


NOTHING = Control()
