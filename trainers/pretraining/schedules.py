"""The learning rate of all pretraining: linear warm-up, then half a cosine."""

from __future__ import annotations

import math
from typing import Any

import torch


def scheduled(optimizer: torch.optim.Optimizer, steps: int, warmup: int) -> dict[str, Any]:
    """The optimizer with `cosine_decay` at every step, as `configure_optimizers` returns it."""
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine_decay(step, steps, warmup)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def cosine_decay(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then half a cosine down to 1 %."""
    if step < warmup:
        return (step + 1) / warmup
    return (
        0.01
        + 0.99 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup)))) / 2
    )
