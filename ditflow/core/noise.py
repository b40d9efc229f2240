"""Noise of a diffusion process, in one formula for every family of models.

Latents at a noise level are x_t = signal * x0 + noise * eps. A model's output is u * x0 + w * eps:
(u, w) is (0, 1) for epsilon, (-noise, signal) for v (Salimans and Ho, 2202.00512) and (-1, 1) for
flow matching (Lipman et al., 2210.02747). Two linear equations give x0 and eps from latents and
output, and the next latents are the same mix at the next level: DDIM where the process preserves
variance, Euler where it is a flow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor

Prediction = Literal["epsilon", "v", "flow"]


class NoiseLevel(NamedTuple):
    """How much signal and how much noise there is in latents: x_t = signal * x0 + noise * eps."""

    signal: float
    noise: float

    @property
    def share(self) -> float:
        """The share of noise in the variance, from 0 (clean) to 1."""
        return self.noise**2 / (self.signal**2 + self.noise**2)

    @property
    def sigma(self) -> float:
        """The level of a flow with as much noise for its signal, from 0 (clean) to 1."""
        return self.noise / (self.signal + self.noise)

    def mix(self, clean: Tensor, noise: Tensor) -> Tensor:
        """Latents at this level; the clean ones themselves where there is no noise."""
        return self.signal * clean + self.noise * noise if self.noise else clean


CLEAN = NoiseLevel(1.0, 0.0)


def level_of(share: float, prediction: Prediction) -> NoiseLevel:
    """The level at which noise has this share of the variance.

    signal^2 + noise^2 is 1 in a process that preserves variance, signal + noise is 1 in a flow.
    """
    signal, noise = (1 - share) ** 0.5, share**0.5
    if prediction == "flow":
        return NoiseLevel(signal / (signal + noise), noise / (signal + noise))
    return NoiseLevel(signal, noise)


OUTPUT: dict[Prediction, Callable[[NoiseLevel], tuple[float, float]]] = {
    "epsilon": lambda level: (0.0, 1.0),
    "v": lambda level: (-level.noise, level.signal),
    "flow": lambda level: (-1.0, 1.0),
}


def separate(
    latents: Tensor, output: Tensor, level: NoiseLevel, prediction: Prediction
) -> tuple[Tensor, Tensor]:
    """Clean latents and noise, as a model's output at this level says they are."""
    u, w = OUTPUT[prediction](level)
    signal, noise = level
    determinant = w * signal - noise * u
    clean = (w * latents - noise * output) / determinant
    return clean, (signal * output - u * latents) / determinant


def leading(latents: Tensor, clean: Tensor, level: NoiseLevel, prediction: Prediction) -> Tensor:
    """The output that says that latents at this level come of these clean ones."""
    u, w = OUTPUT[prediction](level)
    return u * clean + w * (latents - level.signal * clean) / level.noise
