"""Trajectory metrics: do points that start at the same place in both videos take the same path?

They compare where points go, not only in which direction.

Fréchet trajectory distance (Gokmen et al., RoPECraft, NeurIPS 2025): the discrete Fréchet distance
between the two paths of each point, in units of the frame's width and height, as the root mean
square over points. A point that is out of sight for a while follows the nearest one in sight. A
point that does not come back is left out. Departure: the published code exchanges frames and points
when it leaves points out.

Hybrid motion fidelity (Shi et al., DeT, ICCV 2025): the mean over points of two halves. One is
exp(-Fréchet distance), how alike the paths are as a whole. The other is the mean cosine of their
steps, how alike they are locally. The published code computes something else, which `code=True`
gives:
- Instead of the Fréchet distance it takes the mean distance d between all positions of two paths,
  as 1 / (1 + d).
- It draws 50 random paths of the generated video, and takes the reference's best path for each.
- Its cosine counts the starting point as a first step.
"""

# T frames, n points; for tracks see base.py
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.metrics.base import MetricError, Tracks, check_motion
from ditflow.metrics.motion_fidelity import published_similarity

DRAWN = 50
"""Number of paths that the published code of hybrid motion fidelity draws."""


def frechet_trajectory_distance(reference: Tracks, generated: Tracks) -> float:
    """Fréchet trajectory distance in shares of the frame, 0 for the same paths.

    Raises MetricError if the videos differ in length, size or number of points, or if no point is
    in sight at the end of both.
    """
    a, b = _paired_paths(reference, generated)
    return float(frechet_distance(a, b).square().mean().sqrt())


def hybrid_motion_fidelity(reference: Tracks, generated: Tracks, *, code: bool = False) -> float:
    """Hybrid motion fidelity in [-.5, 1], 1 for the same paths.

    `code` gives what the published code computes. Raises MetricError as
    `frechet_trajectory_distance` does.
    """
    if code:
        return hybrid_motion_fidelity_code(reference, generated)
    a, b = _paired_paths(reference, generated)
    return float(
        (torch.exp(-frechet_distance(a, b)) + _step_cosine(a, b, reference.size)).mean() / 2
    )


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    """Discrete Fréchet distance (n,) between paths (n, T, 2) and (n, S, 2).

    It is the shortest leash between two walkers who may wait but not go back: the longest distance
    on the way, for the best way of walking (Eiter and Mannila, 1994).
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
    """Mean cosine (n,) between the steps of paths (n, T, 2), given in shares of the frame.

    Two steps that stand still count 1.
    """
    seen = torch.ones(a.shape[1], len(a), dtype=torch.bool)
    step_a, step_b = (
        Tracks((paths * torch.tensor(size[::-1])).transpose(0, 1), seen, size).steps()[0]
        for paths in (a, b)
    )
    still = (step_a == 0).all(-1) & (step_b == 0).all(-1)
    return functional.cosine_similarity(step_a, step_b, dim=-1).masked_fill(still, 1.0).mean(0)


def hybrid_motion_fidelity_code(reference: Tracks, generated: Tracks, skip: bool = False) -> float:
    """What the published code of hybrid motion fidelity computes.

    It is NaN if a point stands still. With `skip` the cosine of such a step counts 0.
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
    """Paths (n, T, 2) in shares of the frame, of the points in sight at the end of both videos."""
    _check_pairs(reference, generated)
    kept = _comes_back(reference.seen) & _comes_back(generated.seen)
    if not kept.any():
        raise MetricError(
            f"none of the {len(kept)} points is in sight at the end of both videos, so no paths "
            "can be compared. Use `motion_fidelity`, or take fewer frames."
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
            f"paths are compared in pairs, but there are {points[0]} of the reference and "
            f"{points[1]} of the generated video; track the same points."
        )


def _comes_back(seen: Tensor) -> Tensor:
    """Which points, bool (n,), are seen (T, n) in one of the last two frames."""
    return seen[-2:].any(0)


def _filled(tracks: Tracks) -> Tensor:
    """Positions (T, n, 2) without gaps.

    A point out of sight takes the place of the nearest one in sight. It stays where it is if all
    are out of sight.
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
