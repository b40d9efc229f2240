"""One call of a pipeline: what its noise becomes, and which position each pass is given."""

# B videos, b: 1 or B, F latent frames, C channels, Hl Wl latent rows and columns

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ditflow.adapters.steps import schedule_of, step_at
from ditflow.bank import EntryError
from ditflow.bank.kinds import AnyEntry
from ditflow.compatibility import Injection, injected
from ditflow.core.positions import Positions
from ditflow.core.schedule import DenoisingSchedule
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import MotionField
from ditflow.fields.noise import all_carried
from ditflow.models import Model
from ditflow.sampling.control import Controls, PositionControl
from ditflow.sampling.inject import CarriedNoise, Inject


@dataclass(frozen=True)
class Acting:
    """What acts on a call: it places tokens, and perhaps moves the initial noise."""

    place: PositionControl
    noise: CarriedNoise | None

    @classmethod
    def of(
        cls,
        model: Model,
        motion: AnyEntry | MotionField,
        how: Injection,
        size: VideoSize | None = None,
    ) -> Acting:
        """Of a motion, for videos of a size; None is the motion's or the model's own.

        Raises EntryError for what a pipeline cannot do, and as `injected` does.
        """
        if how.motion_scale is not None:
            raise _not_here("motion_scale takes a third pass", "Leave it out")
        if how.injection_blocks:
            raise _not_here("injection_blocks take passes of the reference", "Leave them out")
        control = injected(model, motion, how, size).control
        parts = control.controls if isinstance(control, Controls) else (control,)
        (place,) = (part for part in parts if isinstance(part, PositionControl))
        if isinstance(place, Inject) and place.variable.needs is None:
            raise _not_here("the entry changes latents", "Use an entry of positions")
        return cls(place, next((part for part in parts if isinstance(part, CarriedNoise)), None))


@dataclass
class Call:
    """So many videos of a size, with the pipeline's own steps."""

    model: Model
    size: VideoSize
    videos: int
    schedule: DenoisingSchedule
    acting: Acting
    last: tuple[int, Positions] | None = None  # of the step that runs

    @classmethod
    def of(cls, pipe: Any, model: Model, size: VideoSize, videos: int, acting: Acting) -> Call:
        """The call that a pipeline begins, when it has its steps and is about to draw noise."""
        return cls(model, size, videos, schedule_of(pipe, model), acting)

    def moved(self, latents: Tensor) -> Tensor:
        """Initial latents as the pipeline has them, whose noise moves along."""
        noise, first = self.acting.noise, self.model.layout.channels_first
        if noise is None:
            return latents
        own = latents.transpose(1, 2) if first else latents
        moved = all_carried(own.float(), noise.displacement, noise.share)
        return (moved.transpose(1, 2) if first else moved).to(latents.dtype)

    def position(self, latents: Tensor, timestep: float, name: str) -> Tensor | None:
        """The position of a pass whose latents have so many rows; None is the model's own.

        `name` is what the pipeline calls the pass. With twice as many rows as videos it is two
        passes in one, without the prompt and with it.
        """
        self._check_shape(latents)
        prompted, without, _ = self._positions(timestep, latents.device)
        if name == "uncond":
            return without
        if len(latents) == self.videos or without is prompted:
            return prompted
        own = self.model.stock_position(self.model.spec.compression.grid(self.size))
        both = [own if position is None else position for position in (without, prompted)]
        return torch.cat([one.expand(self.videos, *one.shape[1:]) for one in both])

    def _check_shape(self, latents: Tensor) -> None:
        """Raise ValueError for latents of a call that is not this one."""
        frames, _, *sides = self.model.spec.compression.latent_shape(self.size)
        axis = 2 if self.model.layout.channels_first else 1
        given, wanted = (latents.shape[axis], *latents.shape[3:]), (frames, *sides)
        if given != wanted:
            raise ValueError(
                f"the transformer was given latents of {given} frames, rows and columns, and the "
                f"pipeline that has the motion began a video of {wanted}: remove() the motion "
                "before another pipeline uses the transformer."
            )

    def _positions(self, timestep: float, device: torch.device) -> Positions:
        """Those of a step, which several passes ask for."""
        step = step_at(self.schedule, timestep)
        if self.last is None or self.last[0] != step.index:
            shape = self.model.spec.compression.latent_shape(self.size)
            latents = torch.zeros((), device=device).expand(1, *shape)  # their shape is asked
            positions = self.acting.place.positions(self.model, step, latents)
            self.last = step.index, positions or Positions()
        return self.last[1]


def _not_here(what: str, fix: str) -> EntryError:
    return EntryError(
        f"{what}, and a diffusers pipeline has no place for it. {fix}, or generate with "
        "ditflow.inject_motion."
    )
