"""The loss that teaches the embedded backbone correspondences between frames.

Large models find correspondences between frames by themselves; a small one would need many times
the training, so that the exact motion of the world is told to the attention of some blocks, in the
form in which the attention motion flow reads it.
"""

# B batch, F latent frames, S tokens per frame, N = F*S, A heads, D head dim
from __future__ import annotations

import torch
from torch import Tensor


def landing_distribution(landing: Tensor, side: int) -> Tensor:
    """Where tokens land (B, F, F, S, 2), (x, y) in tokens, as bilinear weights of the `side` x
    `side` tokens around there: (B, F, F, S, S).
    """
    places = torch.arange(side, device=landing.device)
    column, row = (
        (1 - (landing.clamp(0, side - 1)[..., None] - places).abs()).clamp(min=0).unbind(-2)
    )  # (B, F, F, S, side)
    return (row[..., :, None] * column[..., None, :]).flatten(-2)


def correspondence_loss(
    query: Tensor, key: Tensor, target: Tensor, seen: Tensor, temperature: float = 2.0
) -> Tensor:
    """Cross-entropy of where each token looks in each other frame, as the attention motion flow
    reads it, with where it really is.

    Queries and keys (B, N, A, D), `target` (B, F, F, S, S), `seen` bool (B, F, F, S). A frame is
    not compared with itself.
    """
    heads, head_dim = query.shape[-2:]
    tokens = target.shape[-1]
    scores = (
        query.float().flatten(2)
        @ key.float().flatten(2).mT
        * (temperature / (heads * head_dim**0.5))
    )  # (B, N, N)
    scores = (
        scores.unflatten(-1, (-1, tokens)).unflatten(1, (-1, tokens)).transpose(2, 3)
    )  # (B, F, F, S, S)
    missed = -(target * scores.log_softmax(dim=-1)).sum(-1)
    counted = seen & ~torch.eye(seen.shape[1], dtype=torch.bool, device=seen.device)[:, :, None]
    return (missed * counted).sum() / counted.sum().clamp(min=1)
