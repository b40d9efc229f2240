"""Motion cosine: does a generated video move the way its reference moves?

Pairs of frames a fixed stride apart have a displacement field each. A field is taken as one vector
over all pixels, and the cosine between the two videos' fields is averaged over the pairs: 1 is the
same motion, 0 an unrelated one, -1 the opposite. Fast pixels weigh more than slow ones; overall
speed does not count. Motion is measured by DIS optical flow (Kroeger et al., ECCV 2016, OpenCV), as
the median over the colour channels at twice the resolution.
"""

# T frames, C channels, P frame pairs, Y X pixel rows and columns; displacements are (dx, dy) in
# pixels, x right, y down
from __future__ import annotations

import torch
from torch import Tensor

from ditflow.fields.flow import optical_flow
from ditflow.metrics.base import MetricError

STRIDE = 4
"""Distance in frames between the two frames of a pair: the span of a latent frame of CogVideoX."""


def motion_pairs(frames: int, stride: int = STRIDE) -> list[tuple[int, int]]:
    """Pairs of frames (i, i + stride) on which motion is compared, for i = 0, stride, ...

    Raises MetricError if the video is too short for one pair.
    """
    pairs = [(i, i + stride) for i in range(0, frames - stride, stride)]
    if not pairs:
        raise MetricError(
            f"a video of {frames} frames has no two frames {stride} apart; "
            f"give one of at least {stride + 1} frames"
        )
    return pairs


def measured_flows(frames: Tensor, stride: int = STRIDE) -> Tensor:
    """Measured displacements (P, 2, Y, X) of a video, uint8 (T, C, Y, X), for `motion_pairs`."""
    return torch.stack(
        [optical_flow(frames[i], frames[j]) for i, j in motion_pairs(len(frames), stride)]
    )


def flow_cosine(reference: Tensor, generated: Tensor) -> Tensor:
    """Mean over pairs of the cosine between two sets of displacement fields (P, 2, Y, X).

    A pair that is static in both videos counts 1, in one of them 0. Raises MetricError if the
    shapes differ.
    """
    if reference.shape != generated.shape:
        raise MetricError(
            f"flows of shape {tuple(reference.shape)} and {tuple(generated.shape)} cannot be "
            "compared; both must be (pairs, 2, height, width)"
        )
    a, b = reference.flatten(1), generated.flatten(1)
    static = (a.norm(dim=1) < 1e-6) & (b.norm(dim=1) < 1e-6)
    return torch.where(
        static, 1.0, torch.nn.functional.cosine_similarity(a, b, dim=1, eps=1e-6)
    ).mean()


def motion_cosine(reference: Tensor, frames: Tensor, stride: int = STRIDE) -> float:
    """Motion cosine of a video, uint8 (T, C, Y, X), against the displacements of its reference.

    The displacements (P, 2, Y, X) are exact, or come from `measured_flows`. Raises MetricError if
    the video is too short or does not fit them.
    """
    return float(flow_cosine(reference, measured_flows(frames, stride)))


def flow_speed(reference: Tensor, generated: Tensor) -> float:
    """How fast a video moves along its reference's motion: 1 is as fast, 0 not at all.

    The projection of generated displacements (P, 2, Y, X) on the reference's, over all pairs. It is
    0 where the reference does not move.
    """
    asked = float(reference.square().sum())
    return float((reference * generated).sum()) / asked if asked else 0.0
