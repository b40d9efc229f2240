"""Where positions act: in which passes of classifier-free guidance, and how strongly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from ditflow.core.positions import Positions
from ditflow.core.schedule import Step
from ditflow.models.base import Model
from ditflow.sampling.variables import Variable

Passes = Literal["both", "conditional"]
STRONGEST = 100.0


@dataclass(frozen=True)
class Placement:
    """How much of a motion each pass is given through its positions.

    In `both` passes the prompt's guidance leaves motion as it is: the published form. In the
    `conditional` pass guidance pushes towards the motion too, and strengthens it as it strengthens
    the prompt; `balance` evens that out. With a `motion_scale` motion is scaled apart from the
    prompt, by a third pass. `strength` 1 is the motion as it is, 0 none of it, and in between is in
    between; below 0 it is backwards. It goes to 100 either way: at 100, what moves by a hundredth
    of the frame crosses all of it, and far beyond numbers would overflow.
    """

    passes: Passes = "conditional"
    strength: float = 1.0
    motion_scale: float | None = None

    def __post_init__(self) -> None:
        if self.passes not in get_args(Passes):
            known = ", ".join(get_args(Passes))
            raise ValueError(f"unknown passes {self.passes!r}: it is one of {known}.")
        check_strength(self.strength)
        if self.motion_scale is not None and not math.isfinite(self.motion_scale):
            raise ValueError(
                f"motion_scale is {self.motion_scale}, but it must be a finite number."
            )
        if self.motion_scale is not None and self.passes == "both":
            raise ValueError(
                "motion_scale sets the conditional pass apart from the others, so it makes no "
                "sense with passes 'both': leave one of them out."
            )

    def positions(self, place: Callable[[float], Tensor | None], step: Step) -> Positions:
        """The positions of a step's passes; `place` gives the position of an amount of motion."""
        if self.passes == "both":
            return Positions.everywhere(place(self.strength))
        if self.motion_scale is not None:
            return Positions(place(self.strength), motion_scale=self.motion_scale)
        return Positions(place(self.strength * balance(step.guidance_scale)))


def check_strength(strength: float) -> None:
    """Raise ValueError for a strength beyond what `Placement` takes."""
    if not -STRONGEST <= strength <= STRONGEST:
        raise ValueError(
            f"strength is {strength!s:.40}, but it must be a finite number from {-STRONGEST:g} to "
            f"{STRONGEST:g}: 0 is none of the motion, 1 all of it, 2 twice as much."
        )


def balance(guidance_scale: float) -> float:
    """How much motion the conditional pass is given, so that what comes out is as fast as asked.

    Guidance strengthens motion less than in proportion. The law was fitted on the embedded
    models, from 1 to 7.
    """
    return 1.2 * float((1.5 / max(guidance_scale, 1.0)) ** 0.6)


def placed(
    variable: Variable, model: Model, latents: Tensor, placement: Placement, step: Step
) -> Positions:
    """The positions of a step's passes, from a variable; latents have none."""
    if variable.needs is None:
        return Positions()
    return placement.positions(
        lambda amount: variable.towards(model, latents, amount).position, step
    )
