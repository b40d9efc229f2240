"""Which timesteps are denoised, how strongly the prompt guides each, and which of them are guided
by the reference motion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

GuidanceKind = Literal["constant", "dynamic_timestep", "dynamic_index"]


@dataclass(frozen=True)
class Step:
    """One denoising step. `index` counts from 0 in sampling order; `previous` and `following` are
    the neighbours' timesteps, -1 where there is none.
    """

    index: int
    timestep: int
    previous: int
    following: int
    steps: int  # of the whole schedule
    guidance_scale: float


@dataclass(frozen=True)
class DenoisingSchedule:
    """An iterable of `Step`. `guidance` says how the classifier-free guidance scale depends on the
    step.
    """

    timesteps: tuple[int, ...]
    guidance_scale: float = 7.0
    guidance: GuidanceKind = "constant"

    def __post_init__(self) -> None:
        if not self.timesteps:
            raise ValueError("a schedule needs at least one timestep.")
        if self.guidance not in get_args(GuidanceKind):
            raise ValueError(
                f"unknown guidance {self.guidance!r}: it is one of {', '.join(get_args(GuidanceKind))}."
            )

    def __len__(self) -> int:
        return len(self.timesteps)

    def __iter__(self) -> Iterator[Step]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Step:
        if not 0 <= index < len(self):
            raise IndexError(f"step {index} of a schedule with steps 0 to {len(self) - 1}")
        padded = (-1, *self.timesteps, -1)
        return Step(
            index,
            self.timesteps[index],
            padded[index],
            padded[index + 2],
            len(self),
            self._scale(index),
        )

    def _scale(self, index: int) -> float:
        """The published dynamic scale puts the timestep where the number of steps left was meant,
        and so oscillates; results were published with it.
        """
        if self.guidance == "constant":
            return self.guidance_scale
        left = self.timesteps[index] if self.guidance == "dynamic_timestep" else len(self) - index
        return (
            1
            + self.guidance_scale
            * (1 - math.cos(math.pi * ((len(self) - left) / len(self)) ** 5))
            / 2
        )


@dataclass(frozen=True)
class GuidanceWindow:
    """The guided steps: start <= index < stop."""

    start: int
    stop: int

    @classmethod
    def of(cls, window: float | tuple[int, int], steps: int) -> GuidanceWindow:
        """From the fraction of steps that is guided, counted from the first, or from a (start,
        stop) pair of indices.
        """
        start, stop = (0, round(window * steps)) if isinstance(window, (int, float)) else window
        if not 0 <= start <= stop <= steps:
            raise ValueError(
                f"window {window} does not fit {steps} steps: give a fraction from 0 to 1, or (start, stop) with 0 <= start <= stop <= {steps}."
            )
        return cls(start, stop)

    def __len__(self) -> int:
        return self.stop - self.start

    def covers(self, step: Step) -> bool:
        return self.start <= step.index < self.stop

    def learning_rate(self, step: Step, ends: tuple[float, float]) -> float:
        """From ends[0] at the first guided step towards ends[1], which, as published, would come at
        the step after the last.
        """
        first, last = ends
        return first + (last - first) * (step.index - self.start) / len(self)
