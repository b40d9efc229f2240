"""What is told of one video of `tests.benchmarks.instant`: how it moves, what it shows, and whether
it is damaged.
"""

# T frames, C channels, Y X pixel rows and columns

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.synthetic import SyntheticClip, obeys
from ditflow.metrics.appearance import prompt_fidelity, temporal_consistency
from ditflow.metrics.base import Embedder
from ditflow.metrics.motion_cosine import flow_cosine, flow_speed, measured_flows, motion_pairs


def judged(clip: SyntheticClip, prompt: str, frames: Tensor, look: Embedder) -> dict[str, float]:
    """The numbers of one video uint8 (T, C, Y, X); consistency and CLIP are as a CLIP looks."""
    asked = torch.stack([clip.flow(*pair) for pair in motion_pairs(len(frames))])
    made, light = measured_flows(frames), frames.float() / 127.5 - 1
    return {
        "motion": float(flow_cosine(asked, made)),
        "speed": flow_speed(asked, made),
        "prompt": float(obeys(frames, prompt)),
        "contrast": float(light.std(dim=(1, 2, 3)).mean()),
        "saturation": float((light.amax(1) - light.amin(1)).mean()),
        "flicker": float((light[1:] - light[:-1]).mean(dim=(1, 2, 3)).abs().mean()),
        "consistency": temporal_consistency(look, frames),
        "CLIP": prompt_fidelity(look, frames, prompt),
    }
