"""Attention motion flow (AMF): where each token looks in every other frame.

Pondaven et al., CVPR 2025 (2412.07776), section 4.1. With A the softmax over the tokens of frame j
of the temperature-scaled scores of a token q of frame i, its displacement is x_k - x_q for the most
attended k (hard, for the reference) or the mean over A (soft, differentiable, for what is
generated); the loss is the mean squared difference over tokens that move in the reference. Scores
are averaged over heads after the product, as in the published code; that is one product of
concatenated heads. Departures: any number of frames and any grid; a static reference gives 0
instead of NaN.

One look at the scores gives the loss and its gradient, a few frame pairs at a time. What is kept
until backward is the gradient, as large as the queries and keys, and no score. Let s be the scores
of a token q, T the temperature, p the softmax of T s over the tokens k of a frame, c their
coordinates, e the sum of p c, and g the derivative of the loss by e. Then the derivative by s_k is
T p_k (g c_k - g e).
"""

# B batch, F latent frames, f some of them, S = H*W tokens per frame, N = F*S video tokens, A heads,
# D head dim, E = A*D

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion import attention
from ditflow.motion.attention import Scan, across_frames, single
from ditflow.motion.base import MotionSignal, Words


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
        return displacement(recording.query[self.read_block], recording.key[self.read_block], grid)

    def loss(self, recording: Recording, grid: TokenGrid, reference: Tensor) -> Tensor:
        return self.scanned(recording, grid, reference, Scan())

    def scanned(
        self, recording: Recording, grid: TokenGrid, reference: Tensor, scan: Scan
    ) -> Tensor:
        """The loss (B,) as a scan sees it. Tokens that go further than it looks are free."""
        return flow_loss(
            recording.query[self.read_block],
            recording.key[self.read_block],
            grid,
            reference,
            temperature=self.temperature,
            threshold=self.threshold,
            scan=scan,
        )

    def is_static(self, reference: Tensor) -> Tensor:
        return reference.flatten(1).eq(0).all(dim=1)


def displacement(query: Tensor, key: Tensor, grid: TokenGrid) -> Tensor:
    """From each token to the one that it attends to most, (B, F, F, S, 2) of (dx, dy), from queries
    and keys (B, N, A, D).
    """
    coordinates = grid.coordinates(query.device).to(single(query).dtype)
    return across_frames(
        query, key, grid, lambda scores: coordinates[scores.argmax(dim=-1)] - coordinates
    )


def flow_loss(
    query: Tensor,
    key: Tensor,
    grid: TokenGrid,
    reference: Tensor,
    *,
    temperature: float,
    threshold: bool = True,
    scan: Scan = Scan(),  # noqa: B008  a value that nobody changes
) -> Tensor:
    """Mean squared difference (B,) between where the tokens of queries and keys (B, N, A, D) are
    expected and where the reference (B, F, F, S, 2) has them, over tokens with a displacement in
    the reference if `threshold`. Of all pairs of tokens it is those of the scan.

    The temperature multiplies the scores, as in the paper: higher is sharper. The gradient cannot
    be differentiated again.
    """
    moves = reference.ne(0).any(dim=-1) if threshold else torch.ones_like(reference[..., 0]).bool()
    if scan.pairs != "all":
        moves = moves & scan.compared(grid.frames).to(moves.device)[..., None]
    if scan.window is not None:
        moves = moves & reference.abs().amax(dim=-1).le(scan.window)
    scale: float = temperature / (query.shape[2] * query.shape[3] ** 0.5)  # mean over heads
    graph = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    frames = (scan.stored(x).flatten(2).unflatten(1, (grid.frames, -1)) for x in (query, key))
    loss: Tensor = _FlowLoss.apply(  # type: ignore[no-untyped-call]
        *frames, grid, reference, moves, scan, scale, graph
    )
    return loss


class _FlowLoss(torch.autograd.Function):
    """Loss (B,) of queries and keys (B, F, S, E), whose products are multiplied by `scale`; of a
    reference (B, F, F, S, 2), where bool `moves` (B, F, F, S). Of S tokens a scan sees s at a time.
    """

    @staticmethod
    def forward(
        context: Any,
        query: Tensor,
        key: Tensor,
        grid: TokenGrid,
        reference: Tensor,
        moves: Tensor,
        scan: Scan,
        scale: float,
        graph: bool,
    ) -> Tensor:
        coordinates = grid.coordinates(query.device).to(single(query[:0]).dtype)
        places = torch.cat([coordinates, torch.ones_like(coordinates[:, :1])], dim=-1)  # (S, 3)
        counted = (2 * moves.flatten(1).sum(dim=1)).clamp(min=1)
        loss = coordinates.new_zeros(len(query))
        by_query, by_key = (torch.zeros_like(x) for x in (query, key)) if graph else (None, None)
        strips = list(scan.strips(grid, query.device))
        portions = itertools.product(_portions(moves, whole=len(strips) == 1), strips)
        for (i, j), (ours, theirs, far) in portions:
            near, moving = coordinates[theirs], moves[:, i, j, ours]
            queries, keys = query[:, i, ours], key[:, j, theirs].flatten(1, 2)  # (B, f*s, E)
            scores = _product(queries, keys.mT, scale).unflatten(-1, (-1, len(near)))
            if far is not None:
                scores = scores.masked_fill(far, -torch.inf)
            weights = scores.softmax(dim=-1, dtype=coordinates.dtype)  # (B, S, f, s)
            del scores
            expected = weights @ near
            wanted = coordinates[ours] + reference[:, i, j, ours]
            off = torch.where(moving[..., None], expected.transpose(1, 2) - wanted, 0)
            loss += off.square().flatten(1).sum(dim=1)
            if by_query is None or by_key is None:
                continue
            pull = off.transpose(1, 2) / (counted / 2).view(-1, 1, 1, 1)  # g, (B, S, f, 2)
            pull = torch.cat([pull, -(pull * expected).sum(dim=-1, keepdim=True)], dim=-1)
            by_score = (pull @ places[theirs].mT).mul_(weights).flatten(2).to(query.dtype)
            by_query[:, i, ours].baddbmm_(by_score, keys, alpha=scale)
            by_key[:, j, theirs].flatten(1, 2).baddbmm_(by_score.mT, queries, alpha=scale)
        if graph:
            context.save_for_backward(by_query, by_key)
        return loss / counted

    @staticmethod
    @once_differentiable
    def backward(context: Any, by_loss: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (x * by_loss.view(-1, 1, 1, 1) for x in context.saved_tensors)
        return (*gradients, *[None] * 6)


def _product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    return torch.baddbmm(left.new_empty(1, 1, 1), left, right, beta=0, alpha=scale)


def _portions(moves: Tensor, *, whole: bool = True) -> Iterator[tuple[int, slice]]:
    """A frame i and frames j that follow each other, in which something moves from i to j in any
    clip: as many as there is room for, or one where frames are not read as a `whole`.
    """
    most = max(1, attention.PAIRWISE // moves.shape[-1] ** 2) if whole else 1
    for i, row in enumerate(moves.any(dim=-1).any(dim=0).tolist()):
        start = 0
        for j, moving in enumerate([*row, False]):
            if not moving or j - start == most:
                if j > start:
                    yield i, slice(start, j)
                start = j if moving else j + 1
