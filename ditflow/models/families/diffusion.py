"""Models of diffusion by the schedulers of CogVideoX: their denoising steps and noise levels.

DDIM (Song et al., ICLR 2021, 2010.02502) or the DPM solver that CogVideoX is published with.
"""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Generator, Tensor

from ditflow.core.noise import NoiseLevel
from ditflow.core.schedule import DenoisingSchedule, GuidanceKind, Scale, Step
from ditflow.models.base import Model

GUIDANCE: dict[str, GuidanceKind] = {  # as published for each scheduler
    "CogVideoXDDIMScheduler": "constant",
    "CogVideoXDPMScheduler": "dynamic_timestep",
}


class DiffusionModel(Model):
    """A model whose noise levels are those of a variance-preserving process."""

    schedulers = tuple(GUIDANCE)

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        # a copy: diffusers moves its own to where it last added noise
        self._signal: Tensor = self.scheduler.alphas_cumprod.float().cpu()

    def schedule(
        self, steps: int, guidance_scale: Scale = 7.0, guidance: GuidanceKind | None = None
    ) -> DenoisingSchedule:
        self.check_steps(steps)
        self.scheduler.set_timesteps(steps)
        timesteps = tuple(self.scheduler.timesteps.tolist())
        levels = tuple(self.level(timestep) for timestep in timesteps)
        return DenoisingSchedule(timesteps, levels, guidance_scale, guidance or self.spec.guidance)

    def level(self, timestep: float) -> NoiseLevel:
        if not 0 <= timestep < len(self._signal):
            raise self.no_timestep(timestep, len(self._signal) - 1)
        signal = self._signal[int(timestep)]
        return NoiseLevel(float(signal**0.5), float((1 - signal) ** 0.5))

    def timestep_of(self, share: float) -> float:
        return int((1 - self._signal - share).abs().argmin())

    def advance(
        self,
        output: Tensor,
        step: Step,
        latents: Tensor,
        memory: Tensor | None,
        generators: Sequence[Generator],
    ) -> tuple[Tensor, Tensor]:
        self.scheduler.set_timesteps(step.steps)
        if self.spec.scheduler == "CogVideoXDPMScheduler":
            before = int(self.scheduler.timesteps[step.index - 1]) if step.index else None
            previous_x0 = None if memory is None else memory[:, 0]
            arguments = output, previous_x0, step.timestep, before, latents
            following, x0 = self.scheduler.step(*arguments, generator=list(generators))
        else:
            following, x0 = self.scheduler.step(output, step.timestep, latents, return_dict=False)
        return following, x0[:, None]
