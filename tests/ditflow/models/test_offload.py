"""Offload of diffusers: weights that wait on the CPU, whole models or layer by layer, and the same
numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.guidance import MotionGuidance
from ditflow.transfer import Transfer, transfer_motion
from tests.clips import clip_of
from tests.registry import SOME, image_of, size_of, tiny_backbone
from tests.tapped import model_offload, sequential_offload


def transferred(kind: str, offload: Callable[[nn.Module], None] | None = None) -> Transfer:
    """Guided in each of four steps: of two experts, the last step is the second one's."""
    model = tiny_backbone(kind)
    if offload is not None:
        for expert in model.experts:
            offload(expert)
    rates = (0.1, 0.05)
    guidance = MotionGuidance(AttentionMotionFlow(2), "latents", 1.0, rates, inner_steps=1)
    options = {"steps": 4, "motion_guidance": guidance, "image": image_of(kind)}
    return transfer_motion(model, clip_of(size=size_of(model)), "a cat", **options)


wanted = cache(transferred)


@pytest.mark.parametrize("offload", [model_offload, sequential_offload])
@pytest.mark.parametrize("kind", SOME)
def test_motion_is_transferred_bit_by_bit(kind: str, offload: Callable[[nn.Module], None]) -> None:
    made = transferred(kind, offload)
    assert torch.equal(made.entry.parameters, wanted(kind).entry.parameters)
    assert torch.equal(made.frames, wanted(kind).frames)
