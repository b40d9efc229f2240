"""The denoising steps of a pipeline's call, whatever its scheduler."""

from __future__ import annotations

from typing import Any

from ditflow.core.noise import NoiseLevel
from ditflow.core.schedule import DenoisingSchedule, Scale, Step
from ditflow.models import Model


def schedule_of(pipe: Any, model: Model) -> DenoisingSchedule:
    """The steps that a pipeline has prepared, at the noise levels of its own scheduler."""
    timesteps = tuple(map(float, pipe.scheduler.timesteps.tolist()))
    levels = tuple(_level(pipe.scheduler, model, timestep) for timestep in timesteps)
    return DenoisingSchedule(timesteps, levels, _scale(pipe, model), boundary=model.boundary)


def step_at(schedule: DenoisingSchedule, timestep: float) -> Step:
    """The step of a timestep, which a transformer in half precision is told rounded."""
    return min(schedule, key=lambda step: abs(step.timestep - timestep))


def _scale(pipe: Any, model: Model) -> Scale:
    """1 where there is no guidance, else one number, or a pair for two experts."""
    first, second = float(pipe.guidance_scale), getattr(pipe, "_guidance_scale_2", None)
    if first <= 1:  # no guidance for any expert
        return 1.0
    return first if second is None or not model.boundary else (first, max(float(second), 1.0))


def _level(scheduler: Any, model: Model, timestep: float) -> NoiseLevel:
    signal = getattr(scheduler, "alphas_cumprod", None)
    if model.spec.prediction == "flow" or signal is None:
        return model.level(timestep)
    share = float(signal[int(timestep)])
    return NoiseLevel(share**0.5, (1 - share) ** 0.5)
