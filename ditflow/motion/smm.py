"""Spatial marginal mean (SMM): match how the spatial mean of features changes from each frame to
each other.

Yatim et al., CVPR 2024 (2311.17009): with m_f the mean of a block's output over the tokens of frame
f, 1 - the mean over frames i and j of the cosine between m_j - m_i of both videos, over channels,
each video with its own m_i. As published, j = i counts with a cosine of 0, so that a clip has a
loss of
1/F with itself. Departures: the output of a transformer block instead of a U-Net decoder's; a clip
in which nothing changes gives 0. `compat` is the loss of DiTFlow's published baseline, where m_i of
the reference is taken from both videos, and the cosine runs over frames for each channel: adding a
constant to the features changes it, which is why it is not the default.
"""

# B batch, F latent frames, S tokens per frame, N = F*S video tokens, E hidden dim

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion.base import MotionSignal, Words


@dataclass(frozen=True)
class SpatialMarginalMean(MotionSignal[Tensor]):
    """SMM of one block's output. Its paper looks at the reference at each step's own timestep
    (`reference_timestep="match"`), the published DiTFlow baseline at timestep 0.

    Attributes:
        compat: the published baseline's anchor and axis.
    """

    name = "smm"

    compat: bool = False

    @property
    def features(self) -> tuple[int, ...]:
        return (self.read_block,)

    @torch.no_grad()
    def reference(
        self, recording: Recording, grid: TokenGrid, words: Words | None = None
    ) -> Tensor:
        """Spatial means (B, F, E)."""
        return spatial_mean(recording.features[self.read_block], grid)

    def loss(self, recording: Recording, grid: TokenGrid, reference: Tensor) -> Tensor:
        means = spatial_mean(recording.features[self.read_block], grid)
        loss = (published_marginal_loss if self.compat else marginal_loss)(means, reference)
        return torch.where(self.is_static(reference), 0, loss)

    def is_static(self, reference: Tensor) -> Tensor:
        return changes(reference).flatten(1).eq(0).all(dim=1)


def spatial_mean(features: Tensor, grid: TokenGrid) -> Tensor:
    """(B, F, E) of features (B, N, E)."""
    means: Tensor = (
        features.to(torch.promote_types(features.dtype, torch.float32))
        .unflatten(1, (grid.frames, -1))
        .mean(dim=2)
    )
    return means


def changes(means: Tensor, anchor: Tensor | None = None) -> Tensor:
    """m_j - m_i at [:, i, j], (B, F, F, E)."""
    return means[:, None] - (means if anchor is None else anchor)[:, :, None]


def marginal_loss(means: Tensor, reference: Tensor) -> Tensor:
    """(B,) from spatial means (B, F, E)."""
    return 1 - cosine_similarity(changes(means), changes(reference), dim=-1).flatten(1).mean(dim=1)


def published_marginal_loss(means: Tensor, reference: Tensor) -> Tensor:
    """(B,), with the reference's m_i for both videos and the cosine over frames j."""
    return 1 - cosine_similarity(
        changes(means, anchor=reference), changes(reference), dim=2
    ).flatten(1).mean(dim=1)
