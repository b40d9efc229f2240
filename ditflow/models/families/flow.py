"""Models of flow matching: their denoising steps, and how much noise is left at each.

Lipman et al., 2210.02747. Steps are those of the scheduler that a checkpoint was saved with, UniPC
or Euler. After a change of its latents a clip goes on with a step of Euler, because the corrector
of UniPC would undo the change.
"""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from ditflow.core.noise import NoiseLevel, level_of, separate
from ditflow.core.schedule import DenoisingSchedule, GuidanceKind, Scale, Step
from ditflow.core.unipc import OPTIONS, unipc
from ditflow.models.base import Model, ModelError

SCHEDULERS = ("UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler")


class FlowModel(Model):
    """A model whose output is the flow from clean latents to noise."""

    def schedule(
        self, steps: int, guidance_scale: Scale = 5.0, guidance: GuidanceKind | None = None
    ) -> DenoisingSchedule:
        self.check_steps(steps)
        for option, wanted in OPTIONS.items():
            if (given := self.scheduler.config.get(option, wanted)) != wanted:
                raise ModelError(
                    f"the scheduler of {self.spec.name!r} has {option} {given!r}, and this model "
                    f"is sampled with {wanted!r}. Save it with {option}={wanted!r}."
                )
        self.scheduler.set_timesteps(steps)
        timesteps = tuple(self.scheduler.timesteps.tolist())
        levels = tuple(_level(sigma) for sigma in self.scheduler.sigmas[:-1].tolist())
        kind, boundary = guidance or self.spec.guidance, self.boundary
        return DenoisingSchedule(timesteps, levels, guidance_scale, kind, boundary)

    def level(self, timestep: float) -> NoiseLevel:
        trained = self.scheduler.config.num_train_timesteps
        if not 0 <= timestep <= trained:
            raise self.no_timestep(timestep, trained)
        return _level(timestep / trained)

    def timestep_of(self, share: float) -> float:
        noise = level_of(share, self.spec.prediction).noise
        return float(noise * self.scheduler.config.num_train_timesteps)

    def advance(
        self,
        output: Tensor,
        step: Step,
        latents: Tensor,
        memory: Tensor | None,
        generators: Sequence[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        if not isinstance(self.scheduler, UniPCMultistepScheduler):
            return super().advance(output, step, latents, memory, generators)
        clean, _ = separate(latents, output, step.level, self.spec.prediction)
        return unipc(latents, clean, self.schedule(step.steps).levels, step.index, memory)


def _level(sigma: float) -> NoiseLevel:
    return NoiseLevel(1 - sigma, sigma)
