"""Motion fidelity: does every point of one video move like some point of the other?

Yatim et al., CVPR 2024 (Eq. 5): each track of one video takes its best match among the tracks of
the other, by the mean cosine between their steps. This is done in both directions. Here the score
is the mean of the two, so that a video against itself scores 1. Every case is defined: two steps
that stand still match (1), a still one and a moving one do not (0). A track is judged on the steps
on which it is seen. Each of these counts once, and counts 0 if its match is lost there.

The published code, that of the paper and of DiTFlow alike, computes something else, which
`published=True` gives:
- It goes in one direction only.
- It subtracts 1 from the similarity of tracks of the same number, so that a video against itself
  does not score 1.
- It ignores speed, and whether a point is seen.
- It is NaN as soon as one point stands still.

Either way unrelated motions score well above 0, because a maximum over many tracks does: .5 for
3025 random walks of 24 frames. Compare with the score of a video that was made without guidance.
"""

# T frames, n m points of the reference and of the generated video; for tracks see base.py
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.metrics.base import MetricError, Tracks, check_motion


def motion_fidelity(
    reference: Tracks, generated: Tracks, *, speed: bool = False, published: bool = False
) -> float:
    """Motion fidelity in [-1, 1], 1 for the same motion.

    `speed` multiplies the cosine by the ratio of the slower step to the faster one. Raises
    MetricError if the videos differ in length or size, or if nothing can be tracked.
    """
    if published:
        return published_motion_fidelity(reference.positions, generated.positions)
    check_motion(reference, generated)
    (steps_a, seen_a), (steps_b, seen_b) = reference.steps(), generated.steps()
    # (n, m): summed over steps, so that memory does not grow with length
    matches = torch.zeros(seen_a.shape[1], seen_b.shape[1], dtype=torch.float64)
    for a, b, in_a, in_b in zip(steps_a, steps_b, seen_a, seen_b, strict=True):
        matches += step_similarity(a, b, speed) * in_a[:, None] * in_b
    there, back = matches.amax(1).sum() / seen_a.sum(), matches.amax(0).sum() / seen_b.sum()
    return float(there + back) / 2


def step_similarity(a: Tensor, b: Tensor, speed: bool = False) -> Tensor:
    """Cosine similarity (n, m) of steps (n, 2) and (m, 2), 1 for two that are exactly 0.

    `speed` multiplies the cosine by the ratio of the lengths.
    """
    similarity = functional.normalize(a, dim=-1) @ functional.normalize(b, dim=-1).mT
    lengths = a.norm(dim=-1)[:, None].expand_as(similarity), b.norm(dim=-1).expand_as(similarity)
    shorter, longer = torch.minimum(*lengths), torch.maximum(*lengths)
    if speed:
        similarity = similarity * shorter / longer.clamp(min=1e-12)
    return similarity.masked_fill(longer == 0, 1.0)


def published_similarity(steps_a: Tensor, steps_b: Tensor, skip: bool = False) -> Tensor:
    """Mean cosine (n, m) between steps (T-1, n, 2) and (T-1, m, 2), as the published code has it.

    It is NaN if a step stands still. With `skip` such a step counts 0.
    """
    # 0 / 0 is NaN
    a, b = (steps / steps.norm(dim=-1, keepdim=True) for steps in (steps_a, steps_b))
    if skip:
        a, b = a.nan_to_num(), b.nan_to_num()
    return torch.einsum("tnc,tmc->nm", a, b) / len(a)


def published_motion_fidelity(reference: Tensor, generated: Tensor, skip: bool = False) -> float:
    """The score of the published code for positions (T, n, 2) and (T, n, 2).

    It is NaN if a step stands still. With `skip` such a step counts 0. Raises MetricError for
    videos with different numbers of tracks, or of one frame, on which the published code fails.
    """
    if reference.shape[1] != generated.shape[1]:
        raise MetricError(
            "the published motion fidelity needs as many tracks of both videos, "
            f"not {reference.shape[1]} and {generated.shape[1]}; "
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
