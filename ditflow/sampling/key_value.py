"""Keys and values of a reference clip, put into a generation.

MasaCtrl (Cao et al., ICCV 2023, 2304.08465) for a DiT, as DiTFlow's code uses it.
"""

# B batch (b: 1 or B), F latent frames, C channels, Hl Wl latent rows and columns, N video tokens,
# A heads, D head dim, L text tokens

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ditflow.core.picture import Picture
from ditflow.core.schedule import Step
from ditflow.core.tokens import KeyValue
from ditflow.models.base import Model, ModelError
from ditflow.sampling.control import Control, GuidedSteps, Inputs, Prompt
from ditflow.sampling.state import State


@dataclass(frozen=True)
class ReferenceKeyValue(Control):
    """In the guided steps, keys and values of some blocks come from the reference.

    `reference` (B or 1, F, C, Hl, Wl) are the clip's clean latents, and `picture` is its own first
    frame. Without it that of the latents is shown, where the video has a picture in its place.
    """

    reference: Tensor
    blocks: tuple[int, ...]
    guided: GuidedSteps
    picture: Picture | None = None

    def before(
        self, model: Model, step: Step, prompt: Prompt, state: State, inputs: Inputs
    ) -> tuple[State, Inputs]:
        if not self.blocks or self.guided.index(step) is None:
            return state, inputs
        latents, noise, own = self.reference.to(state.noise), state.noise, self.picture
        if own is None and prompt.picture is not None:
            own = prompt.picture.of_clip(latents)
        found = reference_key_value(model, latents, noise, step, prompt.text, self.blocks, own)
        return state, replace(inputs, key_value={**inputs.key_value, **found})


def check_kept(model: Model, blocks: Collection[int]) -> None:
    """Raise ModelError where blocks cannot take keys and values from the latents of an entry."""
    model.check_blocks(blocks)
    if blocks and model.spec.picture == "required":
        raise ModelError(
            f"{model.spec.name!r} must be shown a clip's first frame to give its keys and values, "
            "and an entry keeps its latents alone. Leave injection_blocks out."
        )


@torch.no_grad()
def reference_key_value(
    model: Model,
    reference: Tensor,
    noise: Tensor,
    step: Step,
    text: Tensor,
    blocks: tuple[int, ...],
    picture: Picture | None = None,
) -> KeyValue:
    """Keys and values (B, N, A, D) that blocks have when they see the reference at this step.

    `noise` is the generation's own initial noise, so that at the first step of a zero-terminal-SNR
    schedule nothing is injected. The forward pass ends inside the deepest of the blocks; in block 0
    nothing depends on the text.
    """
    with model.tapped(capture=blocks, stop_early=True) as recording:
        noised = step.level.mix(reference, noise)
        model.predict(noised, step.timestep, text, picture=picture)
    return {block: (recording.key[block], recording.value[block]) for block in blocks}
