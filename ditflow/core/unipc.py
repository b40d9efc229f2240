"""UniPC of second order: the solver that pipelines of flow models are often saved with.

Zhao et al., NeurIPS 2023 (2302.04867), with B(h) = e^h - 1, on predictions of the clean latents. A
step of Euler goes from one level to the next towards the predicted clean latents. UniPC does the
same towards an estimate that the predictions of earlier steps improve. Before each step it corrects
where the last one has ended, by what is predicted there.

The correction forgets the latents that it corrects, and with them whatever was done to them. So a
clip whose latents are not the ones that its last step left begins anew, with a step of Euler.
"""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ditflow.core.noise import CLEAN, NoiseLevel

OPTIONS: dict[str, Any] = {  # what is solved, by diffusers' names
    "use_flow_sigmas": True,  # these are UniPC's
    "predict_x0": True,
    "solver_order": 2,
    "solver_type": "bh2",
    "lower_order_final": True,
    "prediction_type": "flow_prediction",
    "disable_corrector": [],
    "thresholding": False,
    "final_sigmas_type": "zero",
    "use_dynamic_shifting": False,  # UniPC's and Euler's
    "invert_sigmas": False,  # these are Euler's
    "stochastic_sampling": False,
}


def unipc(
    latents: Tensor,
    clean: Tensor,
    levels: Sequence[NoiseLevel],
    index: int,
    memory: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The latents (B, F, C, Hl, Wl) at the next of the levels, and what the next step remembers.

    `clean` is predicted from the latents, which are at `levels[index]`. `memory` (B, 4, F, C, Hl,
    Wl) is that of the step before: the clean latents of the last two steps, the corrected latents
    that the last one began at, and those that it left.
    """
    level, following = (*levels, CLEAN)[index : index + 2]
    start, before = latents, clean
    if memory is not None:
        last, older, origin, left = memory.unbind(1)
        goes_on = _equal(latents, left)
        estimate = (last + clean) / 2
        if index > 1:
            first, second = _weights(*levels[index - 2 : index + 1])
            better = last + first * (older - last) + second * (clean - last)
            estimate = torch.where(_equal(older, last), estimate, better)
        corrected = _towards(estimate, origin, levels[index - 1], level)
        start = torch.where(goes_on, corrected, latents)
        before = torch.where(goes_on, last, clean)
    estimate = clean
    if index and following.noise:  # the last step is Euler's
        ratio = _ratio(levels[index - 1], level, following)
        estimate = clean + (before - clean) / (2 * ratio)
    following_latents = _towards(estimate, start, level, following)
    return following_latents, torch.stack([clean, before, start, following_latents], dim=1)


def _towards(clean: Tensor, latents: Tensor, level: NoiseLevel, following: NoiseLevel) -> Tensor:
    """A step of Euler with an estimate of the clean latents."""
    return following.mix(clean, (latents - level.signal * clean) / level.noise)


def _weights(older: NoiseLevel, last: NoiseLevel, level: NoiseLevel) -> tuple[float, float]:
    """Of the change before the last step, and of the change in it: the corrector's two equations.

    With r the ratio of both steps, a + b = p and r * a + b = q; the change before is over r.
    """
    step, ratio = _log(last) - _log(level), _ratio(older, last, level)
    whole = math.expm1(step)
    rest = whole / step - 1
    p, q = rest / whole, (2 * rest / step - 1) / whole
    first = (p - q) / (1 - ratio)
    return first / ratio, p - first


def _ratio(older: NoiseLevel, last: NoiseLevel, level: NoiseLevel) -> float:
    """The step before, backwards, in units of the step from `last` to `level`."""
    return (_log(older) - _log(last)) / (_log(level) - _log(last))


def _log(level: NoiseLevel) -> float:
    """Half the logarithm of the signal-to-noise ratio: the time in which UniPC is exact."""
    return math.log(level.signal / level.noise)


def _equal(one: Tensor, other: Tensor) -> Tensor:
    """Which clips are the same, (B, 1, 1, 1, 1)."""
    return (one == other).flatten(1).all(dim=1).view(-1, 1, 1, 1, 1)
