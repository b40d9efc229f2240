"""Motion fidelity: does every point of one video move like some point of the other?

Yatim et al., CVPR 2024 (Eq. 5): for each track the best match among the other video's tracks, in
the mean cosine between their steps; from the tracks of both videos in turn. Here the mean of the
two directions, so that a video against itself scores 1, and every case is defined: two steps that
stand still match (1), one that stands still and one that moves do not (0). A track is judged on the
steps on which it is seen; each counts once, and a match lost there gives 0.

The published code (this one's and DiTFlow's) differs, and `published=True` is what it computes: it
goes one way, forbids each track its counterpart of the same number by subtracting 1, so that a
video against itself does not score 1, heeds neither what is seen nor speed, and is NaN as soon as
one point stands still. Either way unrelated motions score well above 0, as a maximum over many
tracks does (.5 for 3025 random walks of 24 frames): compare with a plain video.
"""

# T frames, n m points of the reference and the generated video; tracks are described in base.py
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.metrics.base import MetricError, Tracks, check_motion


def motion_fidelity(
    reference: Tracks, generated: Tracks, *, speed: bool = False, published: bool = False
) -> float:
    """Motion fidelity in [-1, 1], 1 for the same motion.

    With `speed` a match also counts by the ratio of the slower step to the faster one. Raises
    MetricError if the videos differ in length or size, or if nothing can be tracked.
    """
    if published:
        return published_motion_fidelity(reference.positions, generated.positions)
    check_motion(reference, generated)
    (steps_a, seen_a), (steps_b, seen_b) = reference.steps(), generated.steps()
    matches = torch.zeros(
        seen_a.shape[1], seen_b.shape[1], dtype=torch.float64
    )  # (n, m): summed over steps, so that memory does not grow with length
    for a, b, in_a, in_b in zip(steps_a, steps_b, seen_a, seen_b, strict=True):
        matches += step_similarity(a, b, speed) * in_a[:, None] * in_b
    there, back = matches.amax(1).sum() / seen_a.sum(), matches.amax(0).sum() / seen_b.sum()
    return float(there + back) / 2


def step_similarity(a: Tensor, b: Tensor, speed: bool = False) -> Tensor:
    """Similarity (n, m) of steps (n, 2) and (m, 2): their cosine, or with `speed` the cosine times
    the ratio of lengths; 1 for two that are exactly 0.
    """
    similarity = functional.normalize(a, dim=-1) @ functional.normalize(b, dim=-1).mT
    lengths = a.norm(dim=-1)[:, None].expand_as(similarity), b.norm(dim=-1).expand_as(similarity)
    shorter, longer = torch.minimum(*lengths), torch.maximum(*lengths)
    if speed:
        similarity = similarity * shorter / longer.clamp(min=1e-12)
    return similarity.masked_fill(longer == 0, 1.0)


def published_similarity(steps_a: Tensor, steps_b: Tensor, skip: bool = False) -> Tensor:
    """Mean cosine (n, m) between steps (T-1, n, 2) and (T-1, m, 2) as it is published: NaN where
    one stands still, or with `skip` 0 for this step.
    """
    a, b = (
        steps / steps.norm(dim=-1, keepdim=True) for steps in (steps_a, steps_b)
    )  # 0 / 0 is NaN
    if skip:
        a, b = a.nan_to_num(), b.nan_to_num()
    return torch.einsum("tnc,tmc->nm", a, b) / len(a)


def published_motion_fidelity(reference: Tensor, generated: Tensor, skip: bool = False) -> float:
    """The published score of positions (T, n, 2) and (T, n, 2): NaN where the published code gives
    NaN, unless with `skip` steps that stand still count 0.

    Raises MetricError where the published code fails.
    """
    if reference.shape[1] != generated.shape[1]:
        raise MetricError(
            f"the published motion fidelity needs as many tracks of both videos, not {reference.shape[1]} and {generated.shape[1]}; "
            "use `motion_fidelity`, or the same grid of points for both."
        )
    frames = min(len(reference), len(generated))
    if frames < 2:
        raise MetricError(
            "a video of one frame has no motion to compare; give videos of at least 2 frames."
        )
    similarity = published_similarity(
        reference[:frames].diff(dim=0), generated[:frames].diff(dim=0), skip
    )
    return float((similarity - torch.eye(len(similarity))).amax(0).mean())
