"""What a generation takes over from elsewhere: keys and values from the reference clip, positions
from a bank entry.
"""

# B batch (b: 1 or B), F latent frames, C channels, Hl Wl latent rows and columns, N video tokens, A
# heads, D head dim, L text tokens

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ditflow.core.schedule import Step
from ditflow.core.tokens import KeyValue
from ditflow.models.base import Model


@torch.no_grad()
def reference_key_value(
    backbone: Model,
    reference_latents: Tensor,
    noise: Tensor,
    step: Step,
    text: Tensor,
    blocks: Sequence[int],
) -> KeyValue:
    """Keys and values (B, N, A, D) of the video tokens in the given blocks, when the transformer
    sees the reference noised to this step.

    `noise` is the generation's own initial noise, so that at the first step of a zero-terminal-SNR
    schedule nothing is injected. The forward pass ends inside the deepest of the blocks; in block 0
    nothing depends on the text.
    """
    if not blocks:
        return {}
    noised = backbone.add_noise(reference_latents, noise, step.timestep)
    with backbone.tapped(capture=blocks, stop_early=True) as recording:
        backbone.predict(noised, step.timestep, text)
    return {block: (recording.key[block], recording.value[block]) for block in blocks}


def nearest(timesteps: Sequence[int], timestep: int) -> int:
    """The index of the timestep that is closest to the given one; of two, the noisier."""
    return min(
        range(len(timesteps)),
        key=lambda index: (abs(timesteps[index] - timestep), -timesteps[index]),
    )
