"""Inversion: the noise that a clip comes from, by steps that run backwards.

They are deterministic first-order steps over the sampler's schedule, whichever solver samples: DDIM
inversion (Song et al., ICLR 2021, 2010.02502, section 4.3); on a flow it is Euler on the flow's own
equation, from clean latents to noise. A step back takes the model's output where it
begins, at its clean end; the step forward takes it at the other end. So sampling again gives the
clip back up to an error in proportion to the length of a step, and exactly where latents move along
straight lines. There is no guidance, whose error would be largest where it is strong.
"""

# B batch (b: 1 or B), F latent frames, C channels, Hl Wl latent rows and columns, L text tokens

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ditflow.core.noise import CLEAN, separate
from ditflow.core.picture import Picture
from ditflow.core.schedule import DenoisingSchedule, Step
from ditflow.models.base import Model


@torch.no_grad()
def inverted(
    model: Model,
    schedule: DenoisingSchedule,
    latents: Tensor,
    text: Tensor,
    picture: Picture | None = None,
) -> Iterator[tuple[Step, Tensor]]:
    """The steps of a schedule from the last to the first, each with what clean latents (B, F, C,
    Hl, Wl) are before it. Before the first they are noise.

    `text` is (b, L, .) of a prompt that says what the latents show. Each step takes one forward
    pass.
    """
    timestep, level = 0.0, CLEAN
    for step in reversed(list(schedule)):
        output = model.predict(latents, timestep, text, picture=picture)
        assert output is not None
        latents = step.level.mix(*separate(latents, output, level, model.spec.prediction))
        timestep, level = step.timestep, step.level
        yield step, latents
