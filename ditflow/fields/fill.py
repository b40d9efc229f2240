"""Fill in what could not be followed: by the camera's motion, and by what is near.

At each time an affine motion is fitted robustly to what was followed. That is the camera's, as
things that move by themselves are outliers. What the neighbourhood does beyond it is carried into a
hole, and dies out with distance (push-pull: Gortler et al., SIGGRAPH 1996).
"""

# F times, H W rows and columns, K = H*W cells; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.fields.field import cell_places

TOLERANCE = 0.008  # shares of the frame: what differs more from the camera is not its motion
CARRIED = 0.2  # how much of a neighbour's own motion is left at each doubling of the distance
LOOSE = (32.0, 16.0, 8.0, 4.0, 2.0, 1.0)  # tolerances of the rounds, in TOLERANCE


def filled(displacement: Tensor, confidence: Tensor) -> Tensor:
    """Displacements (F, 2, H, W), replaced as far as their confidence (F, H, W) falls below 1."""
    camera = affine_motion(displacement, confidence)
    return camera + _carried(displacement - camera, confidence[:, None])


def affine_motion(displacement: Tensor, confidence: Tensor) -> Tensor:
    """The affine motion (F, 2, H, W) that most of the trusted cells of each time agree with."""
    return spread(affine_fit(displacement, confidence), displacement)


def spread(fit: Tensor, displacement: Tensor) -> Tensor:
    """Affine motions (F, 3, 2) on the cells of displacements (F, 2, H, W)."""
    camera = (_terms(displacement) @ fit).transpose(1, 2).reshape(displacement.shape)
    return camera.float()


def affine_fit(displacement: Tensor, confidence: Tensor) -> Tensor:
    """That affine motion as float64 (F, 3, 2): (dx, dy) by x and y from the centre, and by 1.

    Iteratively reweighted least squares with the weights of Geman and McClure, whose tolerance
    narrows. It starts from all cells and from no motion; what explains more is kept.
    """
    terms = _terms(displacement)
    moved = displacement.flatten(2).mT.double()  # (F, K, 2)
    trust = confidence.flatten(1).double() + 1e-6
    best, most = moved.new_zeros(len(moved), 3, 2), moved.new_zeros(len(moved))
    for fit in (_solved(terms, moved, trust), torch.zeros_like(best)):
        for loose in LOOSE:
            fit = _solved(terms, moved, trust * _near(terms, moved, fit, loose) ** 2)
        explained = (trust * _near(terms, moved, fit, 1)).sum(1)
        best = torch.where((explained > most)[:, None, None], fit, best)
        most = torch.maximum(explained, most)
    return best


def _terms(displacement: Tensor) -> Tensor:
    """Float64 (K, 3): x and y of each cell from the centre, in shares of the frame, and 1."""
    places = cell_places(*displacement.shape[-2:]).flatten(1).mT - 0.5
    return torch.cat([places, torch.ones(len(places), 1)], dim=1).double()


def _near(terms: Tensor, moved: Tensor, fit: Tensor, loose: float) -> Tensor:
    """How well an affine motion (F, 3, 2) explains each cell, from 0 to 1: (F, K)."""
    error = (moved - terms @ fit).norm(dim=2)
    near: Tensor = 1 / (1 + (error / (TOLERANCE * loose)) ** 2)
    return near


def _solved(terms: Tensor, moved: Tensor, weight: Tensor) -> Tensor:
    """The weighted least-squares affine motion (F, 3, 2); where nothing decides it, the least."""
    weighted = terms.mT * weight[:, None]
    ridge = 1e-6 * weight.sum(1)[:, None, None] * torch.eye(3, dtype=terms.dtype)
    solution: Tensor = torch.linalg.solve(weighted @ terms + ridge, weighted @ moved)
    return solution


def _carried(values: Tensor, weight: Tensor) -> Tensor:
    """Values (F, 2, H, W) where they have weight (F, 1, H, W), else a rest of those around."""
    if min(values.shape[-2:]) == 1:
        return values * weight
    total = functional.avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False)
    mean = functional.avg_pool2d(values * weight, 2, ceil_mode=True, count_include_pad=False)
    coarse = _carried(mean / total.clamp_min(1e-6), (4 * total).clamp(max=1) * CARRIED)
    around = functional.interpolate(coarse, size=values.shape[-2:], mode="bilinear")
    mixed: Tensor = values * weight + around * (1 - weight)
    return mixed
