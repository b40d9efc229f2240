"""The denoising steps of a generation, and which of them follow the reference motion."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from ditflow.core.noise import CLEAN, NoiseLevel

GuidanceKind = Literal["constant", "dynamic_timestep", "dynamic_index"]
Scale = float | tuple[float, float]  # a pair is of the experts for much and for little noise


@dataclass(frozen=True)
class Step:
    """One denoising step, from one noise level to the next.

    `index` counts from 0 in sampling order. `timestep` is the scheduler's own number, whole or not,
    that the transformer is told. `next_level` is clean after the last step.
    """

    index: int
    timestep: float
    level: NoiseLevel
    next_level: NoiseLevel
    steps: int  # of the whole schedule
    guidance_scale: float


@dataclass(frozen=True)
class DenoisingSchedule:
    """The steps of a generation, as an iterable of `Step`.

    `timesteps` and `levels` belong together. `guidance` says how the scale of classifier-free
    guidance depends on the step. The second expert of a model that has two denoises at timesteps
    below the `boundary`.
    """

    timesteps: tuple[float, ...]
    levels: tuple[NoiseLevel, ...]
    guidance_scale: Scale = 7.0
    guidance: GuidanceKind = "constant"
    boundary: float = 0.0

    def __post_init__(self) -> None:
        if not self.timesteps:
            raise ValueError("a schedule needs at least one timestep.")
        assert len(self.timesteps) == len(self.levels), "each timestep has its noise level"
        if self.guidance not in get_args(GuidanceKind):
            known = ", ".join(get_args(GuidanceKind))
            raise ValueError(f"unknown guidance {self.guidance!r}: it is one of {known}.")
        if not (isinstance(self.guidance_scale, int | float) or self.boundary):
            raise ValueError(
                f"guidance_scale {self.guidance_scale} is a pair, for experts of much and of "
                "little noise, and this model has one transformer: give one number."
            )

    def __len__(self) -> int:
        return len(self.timesteps)

    def __iter__(self) -> Iterator[Step]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Step:
        if not 0 <= index < len(self):
            raise IndexError(f"step {index} of a schedule with steps 0 to {len(self) - 1}")
        level, next_level = (*self.levels, CLEAN)[index : index + 2]
        timestep, scale = self.timesteps[index], self._scale(index)
        return Step(index, timestep, level, next_level, len(self), scale)

    def nearest(self, level: NoiseLevel) -> int:
        """The index of the step whose noise is closest to a level's; of two, the noisier."""

        def far(index: int) -> tuple[float, int]:
            return abs(self.levels[index].sigma - level.sigma), index

        return min(range(len(self)), key=far)

    def _scale(self, index: int) -> float:
        """The scale of classifier-free guidance at a step.

        "dynamic_timestep" is as published: its code puts the timestep where the number of steps
        left was meant, so the scale oscillates. Results were published with it.
        """
        scale = self.guidance_scale
        if not isinstance(scale, int | float):
            scale = scale[self.timesteps[index] < self.boundary]
        if self.guidance == "constant":
            return scale
        left = self.timesteps[index] if self.guidance == "dynamic_timestep" else len(self) - index
        share = (len(self) - left) / len(self)
        return 1 + scale * (1 - math.cos(math.pi * share**5)) / 2


Window = float | tuple[int, int] | str
"""Steps of any schedule: the fraction of them from the first on, their (start, stop), or
"noise:SIGMA", those from pure noise down to that level."""


def check_window(window: Window) -> None:
    """Raise ValueError for a window that fits no schedule at all."""
    share = _least_noise(window) if isinstance(window, str) else window
    if isinstance(share, float | int) and not 0 <= share <= 1:
        raise ValueError(
            f"window {window} does not fit any schedule: give a fraction from 0 to 1, (start, "
            "stop), or noise:SIGMA with a level from 0 to 1."
        )


def in_window(window: Window, step: Step) -> bool:
    """Whether a step is in a window. Raises ValueError where the window does not fit its schedule.

    By noise, the middle of the step decides. So a window covers the same noise on any schedule, to
    half a step.
    """
    check_window(window)
    if isinstance(window, str):
        return (step.level.sigma + step.next_level.sigma) / 2 >= _least_noise(window)
    start, stop = (0, round(window * step.steps)) if isinstance(window, float | int) else window
    if not 0 <= start <= stop <= step.steps:
        raise ValueError(
            f"window {window} does not fit {step.steps} steps: give a fraction from 0 to 1, "
            f"(start, stop) with 0 <= start <= stop <= {step.steps}, or noise:SIGMA."
        )
    return start <= step.index < stop


def _least_noise(window: str) -> float:
    """The noise at which a window ends."""
    found = re.fullmatch(r"noise:(\d*\.?\d+)", window)
    if found is None:
        raise ValueError(
            f"window {window!r} is none: give a fraction from 0 to 1, (start, stop), or "
            "noise:SIGMA, such as noise:0.9."
        )
    return float(found[1])


@dataclass(frozen=True)
class GuidanceWindow:
    """The guided steps: start <= index < stop."""

    start: int
    stop: int

    @classmethod
    def of(cls, window: Window, schedule: DenoisingSchedule) -> GuidanceWindow:
        """A window on a schedule. Raises ValueError where it does not fit."""
        guided = [step.index for step in schedule if in_window(window, step)]
        start = guided[0] if guided else 0
        return cls(start, start + len(guided))

    def __len__(self) -> int:
        return self.stop - self.start

    def covers(self, step: Step) -> bool:
        return self.start <= step.index < self.stop

    def learning_rate(self, step: Step, ends: tuple[float, float]) -> float:
        """The rate of a guided step, from ends[0] at the first towards ends[1].

        As published, ends[1] belongs to the step after the last guided one.
        """
        first, last = ends
        return first + (last - first) * (step.index - self.start) / len(self)
