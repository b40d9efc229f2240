"""Attention motion flow and its loss as the paper writes them, with all scores in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ditflow.core.sizes import TokenGrid


def published(query: Tensor, key: Tensor, grid: TokenGrid, temperature: float) -> Tensor:
    """As the paper writes it: scores averaged over heads, a softmax for each frame pair, a table of
    all displacements.
    """
    scores = torch.einsum("bqad,bkad->baqk", query, key).mean(1) / query.shape[-1] ** 0.5
    coordinates, s = grid.coordinates(), grid.tokens_per_frame
    relative = coordinates[None] - coordinates[:, None]  # (S, S, 2): from q to k
    flow = query.new_empty(len(query), grid.frames, grid.frames, s, 2)
    for i in range(grid.frames):
        for j in range(grid.frames):
            attention = (temperature * scores[:, i * s : (i + 1) * s, j * s : (j + 1) * s]).softmax(
                -1
            )
            flow[:, i, j] = (attention[..., None] * relative).sum(2)
    return flow


def published_loss(flow: Tensor, reference: Tensor, threshold: bool = True) -> Tensor:
    """Of each clip, over the tokens with a displacement in the reference."""
    losses = []
    for ours, theirs in zip(flow, reference, strict=True):
        moves = theirs.norm(dim=-1) > 0 if threshold else torch.ones(theirs.shape[:-1]).bool()
        losses.append(torch.nn.functional.mse_loss(ours[moves], theirs[moves]))
    return torch.stack(losses)
