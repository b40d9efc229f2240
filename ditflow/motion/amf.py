"""Attention motion flow (AMF): where each token looks in every other frame.

Pondaven et al., CVPR 2025 (2412.07776), section 4.1. With A the softmax over the tokens of frame j
of the temperature-scaled scores of a token q of frame i, its displacement is x_k - x_q for the most
attended k (hard, for the reference) or the mean over A (soft, differentiable, for what is
generated); the loss is the mean squared difference over tokens that move in the reference. Scores
are averaged over heads after the product, as in the published code; that is one product of
concatenated heads. Departures: any number of frames and any grid; a static reference gives 0
instead of NaN.
"""

# B batch, F latent frames, f some of them, S = H*W tokens per frame, N = F*S video tokens, A heads,
# D head dim

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion.attention import across_frames, single
from ditflow.motion.base import MotionSignal, Words

Land = Callable[
    [Tensor, Tensor], Tensor
]  # scores (B, f, S, S) and coordinates (S, 2) -> where each token goes, (B, f, S, 2)


@dataclass(frozen=True)
class AttentionMotionFlow(MotionSignal[Tensor]):
    """AMF at one block.

    Attributes:
        temperature: multiplies the scores, as in the paper: higher is sharper.
        threshold: leave tokens that do not move in the reference free, as published.
    """

    name = "amf"

    temperature: float = 2.0
    threshold: bool = True

    @property
    def capture(self) -> tuple[int, ...]:
        return (self.read_block,)

    @torch.no_grad()
    def reference(
        self, recording: Recording, grid: TokenGrid, words: Words | None = None
    ) -> Tensor:
        """Hard displacement (B, F, F, S, 2) of (dx, dy) in tokens, from frame i to frame j: x
        right, y down.
        """
        return displacement(
            recording.query[self.read_block], recording.key[self.read_block], grid, most_attended
        )

    def loss(self, recording: Recording, grid: TokenGrid, reference: Tensor) -> Tensor:
        land = partial(expected, temperature=self.temperature)
        return flow_loss(
            displacement(
                recording.query[self.read_block], recording.key[self.read_block], grid, land
            ),
            reference,
            self.threshold,
        )

    def is_static(self, reference: Tensor) -> Tensor:
        return reference.flatten(1).eq(0).all(dim=1)


def displacement(query: Tensor, key: Tensor, grid: TokenGrid, land: Land) -> Tensor:
    """(B, F, F, S, 2) of (dx, dy) from queries and keys (B, N, A, D)."""
    coordinates = grid.coordinates(query.device).to(single(query).dtype)
    return across_frames(query, key, grid, lambda scores: land(scores, coordinates) - coordinates)


def most_attended(scores: Tensor, coordinates: Tensor) -> Tensor:
    """The coordinates of the highest score."""
    return coordinates[scores.argmax(dim=-1)]


def expected(scores: Tensor, coordinates: Tensor, temperature: float) -> Tensor:
    """The mean coordinates, weighted by attention. The temperature multiplies the scores, as in
    the paper: higher is sharper.
    """
    return (scores * temperature).softmax(dim=-1) @ coordinates


def flow_loss(flow: Tensor, reference: Tensor, threshold: bool = True) -> Tensor:
    """Mean squared difference (B,) of displacements (B, F, F, S, 2), over tokens with a
    displacement in the reference if `threshold`.
    """
    moves = (
        reference.ne(0).any(dim=-1, keepdim=True)
        if threshold
        else torch.ones_like(reference[..., :1], dtype=torch.bool)
    )
    errors = torch.where(moves, (flow - reference).square(), 0).flatten(1).sum(dim=1)
    return errors / (2 * moves.flatten(1).sum(dim=1)).clamp(min=1)
