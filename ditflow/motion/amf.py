"""Attention motion flow (AMF): where each token looks in every other frame.

Pondaven et al., CVPR 2025 (2412.07776), section 4.1. With A the softmax over the tokens of frame j of the temperature-scaled scores of a token q of
frame i, its displacement is x_k - x_q for the most attended k (hard, for the reference) or the mean over A (soft, differentiable, for what is
generated); the loss is the mean squared difference over tokens that move in the reference. Scores are averaged over heads after the product, as in the
published code; that is one product of concatenated heads. Departures: any number of frames and any grid; a static reference gives 0 instead of NaN.
"""

# B batch, F latent frames, f some of them, S = H*W tokens per frame, N = F*S video tokens, A heads, D head dim

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ditflow.grid import TokenGrid
from ditflow.motion.base import MotionSignal
from ditflow.taps import Recording

PAIRWISE = 2**24  # scores that exist at a time for each clip, if one frame pair does not already need more

Read = Callable[[Tensor, Tensor], Tensor]  # scores (B, S, f, S) and coordinates (S, 2) -> where each token goes, (B, S, f, 2)


class AttentionMotionFlow(MotionSignal):
    """AMF at one block. A `threshold` leaves tokens that do not move in the reference free, as published."""

    name = "amf"

    def __init__(self, block: int, temperature: float = 2.0, threshold: bool = True) -> None:
        self.block, self.temperature, self.threshold = block, temperature, threshold
        self.capture = (block,)

    @torch.no_grad()
    def reference(self, recording: Recording, grid: TokenGrid) -> Tensor:
        """Hard displacement (B, F, F, S, 2) of (dx, dy) in tokens, from frame i to frame j: x right, y down."""
        return displacement(recording.query[self.block], recording.key[self.block], grid, most_attended)

    def loss(self, recording: Recording, grid: TokenGrid, reference: Tensor) -> Tensor:
        read = partial(expected, temperature=self.temperature)
        return flow_loss(displacement(recording.query[self.block], recording.key[self.block], grid, read), reference, self.threshold)

    def is_static(self, reference: Tensor) -> Tensor:
        return reference.flatten(1).eq(0).all(dim=1)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "block": self.block, "temperature": self.temperature, "threshold": self.threshold}


def displacement(query: Tensor, key: Tensor, grid: TokenGrid, read: Read) -> Tensor:
    """(B, F, F, S, 2) of (dx, dy) from queries and keys (B, N, A, D); scores are recomputed in backward, a few frame pairs at a time."""
    heads, head_dim = query.shape[-2:]
    query, key = (x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2).unflatten(1, (grid.frames, -1)) for x in (query, key))  # (B, F, S, A*D)
    query = query / (heads * head_dim**0.5)
    coordinates = grid.coordinates(query.device).to(query.dtype)
    few = max(1, PAIRWISE // grid.tokens_per_frame**2)

    def flow(frame: Tensor, frames: Tensor) -> Tensor:
        scores = frame @ frames.flatten(1, 2).mT  # (B, S, f*S)
        landing = read(scores.unflatten(-1, (-1, grid.tokens_per_frame)), coordinates)
        return (landing - coordinates[:, None]).transpose(1, 2)  # (B, f, S, 2)

    rows = [[checkpoint(flow, frame, frames, use_reentrant=False, preserve_rng_state=False) for frames in key.split(few, dim=1)] for frame in query.unbind(1)]
    return torch.stack([torch.cat(row, dim=1) for row in rows], dim=1)


def most_attended(scores: Tensor, coordinates: Tensor) -> Tensor:
    """Where the highest score is."""
    return coordinates[scores.argmax(dim=-1)]


def expected(scores: Tensor, coordinates: Tensor, temperature: float) -> Tensor:
    """The mean place under the attention. A higher temperature is sharper, as in the paper: it multiplies the scores."""
    return (scores * temperature).softmax(dim=-1) @ coordinates


def flow_loss(flow: Tensor, reference: Tensor, threshold: bool = True) -> Tensor:
    """Mean squared difference (B,) of displacements (B, F, F, S, 2), over tokens with a displacement in the reference if `threshold`."""
    moves = reference.ne(0).any(dim=-1, keepdim=True) if threshold else torch.ones_like(reference[..., :1], dtype=torch.bool)
    errors = torch.where(moves, (flow - reference).square(), 0).flatten(1).sum(dim=1)
    return errors / (2 * moves.flatten(1).sum(dim=1)).clamp(min=1)
