"""Tracks of made-up paths, for metrics of motion."""

from __future__ import annotations

import torch
from torch import Tensor

from ditflow.metrics import Tracks

SIZE = (100, 200)


def tracks(positions: Tensor, seen: Tensor | None = None) -> Tracks:
    """Tracks of positions (T, n, 2), all of them seen unless told."""
    everywhere = torch.ones(positions.shape[:2], dtype=torch.bool)
    return Tracks(positions, everywhere if seen is None else seen, SIZE)


def wandering(seed: int, points: int, frames: int, speed: float) -> Tensor:
    """Random walks (T, n, 2)."""
    steps = torch.randn(frames, points, 2, generator=torch.Generator().manual_seed(seed))
    return steps.cumsum(0) * speed + 60


def straight(*steps: tuple[float, float], frames: int = 5) -> Tensor:
    """Points that take the same step in each frame, (T, n, 2)."""
    return torch.tensor(steps) * torch.arange(frames)[:, None, None] + 50.0
