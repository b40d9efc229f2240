"""Metrics that compare the paths of points which start at the same place in both videos: where the
points go, not only in which direction.

Fréchet trajectory distance (Gokmen et al., RoPECraft, NeurIPS 2025): the discrete Fréchet distance
between the two paths of each point in units of the frame's width and height, root mean square over
points. A point that is out of sight for a while goes with the nearest one in sight; one that does
not come back is left out. Departure: the published code does this last part with frames and points
exchanged.

Hybrid motion fidelity (Shi et al., DeT, ICCV 2025): mean over points of half exp(-Fréchet
distance), how alike the paths are as a whole, and half the mean cosine of their steps, how alike
locally. Its code computes something else: not the Fréchet distance but the mean distance d between
all positions of two paths, as 1 / (1 + d); for each of 50 random generated paths the best of the
reference's; and a cosine that counts the starting point as a first step. `code=True` is that.
"""

# T frames, n points; tracks are described in base.py
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.metrics.base import MetricError, Tracks, check_motion
from ditflow.metrics.motion_fidelity import published_similarity

DRAWN = 50
"""Paths that the code of hybrid motion fidelity draws."""


def frechet_trajectory_distance(reference: Tracks, generated: Tracks) -> float:
    """Fréchet trajectory distance in shares of the frame, 0 for the same paths. Raises MetricError
    if there is no point that both videos keep in sight.
    """
    a, b = _paired_paths(reference, generated)
    return float(frechet_distance(a, b).square().mean().sqrt())


def hybrid_motion_fidelity(reference: Tracks, generated: Tracks, *, code: bool = False) -> float:
    """Hybrid motion fidelity in [-.5, 1], 1 for the same paths; with `code` what its published code
    computes. Raises MetricError as the distance does.
    """
    if code:
        return hybrid_motion_fidelity_code(reference, generated)
    a, b = _paired_paths(reference, generated)
    return float(
        (torch.exp(-frechet_distance(a, b)) + _step_cosine(a, b, reference.size)).mean() / 2
    )


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    """Discrete Fréchet distance (n,) between paths (n, T, 2) and (n, S, 2): the shortest leash for
    two walkers who may wait but not go back.

    Eiter and Mannila, 1994: the least over ways of walking of the longest distance on the way.
    """
    distance = torch.cdist(a, b)  # (n, T, S)
    rows, columns = distance.shape[1:]
    leash = [[distance[:, i, j] for j in range(columns)] for i in range(rows)]
    for i in range(rows):
        for j in range(columns):
            before = [
                leash[k][m]
                for k, m in ((i - 1, j), (i, j - 1), (i - 1, j - 1))
                if k >= 0 and m >= 0
            ]
            if before:
                leash[i][j] = torch.maximum(leash[i][j], torch.stack(before).amin(0))
    return leash[-1][-1]


def _step_cosine(a: Tensor, b: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean cosine (n,) between the steps of two sets of paths (n, T, 2) in shares of the frame;
    where both stand still it is 1.
    """
    seen = torch.ones(a.shape[1], len(a), dtype=torch.bool)
    step_a, step_b = (
        Tracks((paths * torch.tensor(size[::-1])).transpose(0, 1), seen, size).steps()[0]
        for paths in (a, b)
    )
    still = (step_a == 0).all(-1) & (step_b == 0).all(-1)
    return functional.cosine_similarity(step_a, step_b, dim=-1).masked_fill(still, 1.0).mean(0)


def hybrid_motion_fidelity_code(reference: Tracks, generated: Tracks, skip: bool = False) -> float:
    """What the code of hybrid motion fidelity computes: NaN where a point stands still, unless with
    `skip` the cosine of such steps counts 0.
    """
    _check_pairs(reference, generated)
    a, b = (
        tracks.positions / torch.tensor(tracks.size[::-1]) for tracks in (reference, generated)
    )  # (T, n, 2)
    steps = [torch.cat([path[:1], path.diff(dim=0)]) for path in (a, b)]
    drawn = torch.randint(a.shape[1], (DRAWN,), generator=torch.Generator().manual_seed(0))
    distance = torch.cdist(
        a[:, drawn].transpose(0, 1).flatten(0, 1), b[:, drawn].transpose(0, 1).flatten(0, 1)
    )
    shape = (DRAWN, len(a), DRAWN, len(b))
    alike = 1 / (1 + distance.reshape(shape).mean((1, 3)))
    return (
        float(published_similarity(steps[0], steps[1], skip).amax(0).mean() + alike.amax(0).mean())
        / 2
    )


def _paired_paths(reference: Tracks, generated: Tracks) -> tuple[Tensor, Tensor]:
    """Paths (n, T, 2) of the points that both videos keep, in shares of the frame."""
    _check_pairs(reference, generated)
    kept = _comes_back(reference.seen) & _comes_back(generated.seen)
    if not kept.any():
        raise MetricError(
            f"none of the {len(kept)} points is in sight at the end of both videos, so no paths can be compared. Use `motion_fidelity`, or take fewer frames."
        )
    paths = [
        _filled(tracks)[:, kept].transpose(0, 1) / torch.tensor(tracks.size[::-1])
        for tracks in (reference, generated)
    ]
    return paths[0], paths[1]


def _check_pairs(reference: Tracks, generated: Tracks) -> None:
    check_motion(reference, generated)
    points = [tracks.positions.shape[1] for tracks in (reference, generated)]
    if points[0] != points[1]:
        raise MetricError(
            f"paths are compared in pairs, but there are {points[0]} of the reference and {points[1]} of the generated video; track the same points."
        )


def _comes_back(seen: Tensor) -> Tensor:
    """Whether a point (T, n) is seen in one of the last two frames: one that is lost in the last
    frame only is kept.
    """
    return seen[-2:].any(0)


def _filled(tracks: Tracks) -> Tensor:
    """Positions (T, n, 2) in which a point out of sight goes where the nearest one in sight goes,
    or stays where all are out of sight.
    """
    positions = tracks.positions.double().clone()
    for frame in range(1, len(positions)):
        seen = tracks.seen[frame]
        nearest = (
            torch.cdist(positions[frame - 1], positions[frame])
            .masked_fill(~seen, torch.inf)
            .argmin(1)
        )
        other = positions[frame][nearest] if seen.any() else positions[frame - 1]
        positions[frame] = torch.where(seen[:, None], positions[frame], other)
    return positions
