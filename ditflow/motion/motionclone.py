"""MotionClone: match the strongest temporal attention of the reference.

Ling et al., ICLR 2025 (2406.05338), equations 4 to 6. Mode "time", the published adaptation to
joint attention (CMC, appendix D.2): a token's attention to the tokens at its own place in all
frames, a softmax over frames for each head; where the reference's is highest (top 1), the mean
squared difference of the two videos. It is the paper's sum of squares divided by the number of
rows. Mode "frames" is our variant: the softmax over all tokens of each other frame, of scores
averaged over heads, with its top 1. A clip has 0 with itself. The reference is seen with the noise
share of the paper's timestep 400.
Departures: the model's own rotated queries and keys, one block. In full attention most tokens
attend to themselves: `exclude_self` leaves these out.
"""

# B batch, F latent frames, S = H*W tokens per frame, N = F*S video tokens, A heads, D head dim

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion.attention import across_frames, across_time
from ditflow.motion.base import MotionSignal, View, Words

Mode = Literal["time", "frames"]


@dataclass(frozen=True)
class MotionClone(MotionSignal[Tensor]):
    """The sparse temporal attention of one block.

    Attributes:
        mode: attention over time at one place, or over the tokens of each other frame.
        exclude_self: a token's attention to its own frame never counts as the strongest.
        temperature: multiplies the scores: higher is sharper.
    """

    name = "motionclone"
    view = View(None, 0.71)

    mode: Mode = "time"
    exclude_self: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode={self.mode!r}: it is {' or '.join(get_args(Mode))}.")

    @property
    def capture(self) -> tuple[int, ...]:
        return (self.read_block,)

    @torch.no_grad()
    def reference(
        self, recording: Recording, grid: TokenGrid, words: Words | None = None
    ) -> Tensor:
        """The highest attention and where it is, as two numbers: (B, A, S, F, 2) over time, or (B,
        F, F, S, 2) across frames.
        """
        query, key = recording.query[self.read_block], recording.key[self.read_block]
        if self.mode == "frames":
            return across_frames(query, key, grid, partial(strongest, temperature=self.temperature))
        scores = across_time(query, key, grid) * self.temperature
        return top(
            scores.softmax(dim=-1),
            without=torch.eye(grid.frames, dtype=torch.bool, device=scores.device)
            if self.exclude_self
            else None,
        )

    def loss(self, recording: Recording, grid: TokenGrid, reference: Tensor) -> Tensor:
        query, key = recording.query[self.read_block], recording.key[self.read_block]
        if self.mode == "time":
            errors = at(
                (across_time(query, key, grid) * self.temperature).softmax(dim=-1), reference
            )
            return torch.where(reference[..., 0] < 0, 0, errors).square().flatten(1).mean(dim=1)
        errors = across_frames(
            query,
            key,
            grid,
            lambda scores, strong: at((scores * self.temperature).softmax(dim=-1), strong),
            reference,
        )
        other = (
            ~torch.eye(grid.frames, dtype=torch.bool, device=errors.device)[:, :, None]
            if self.exclude_self
            else torch.ones_like(errors[0, ..., :1]).bool()
        )
        return torch.where(other, errors.square(), 0).flatten(1).sum(dim=1) / (
            other.sum() * grid.tokens_per_frame
        ).clamp(min=1)

    def is_static(self, reference: Tensor) -> Tensor:
        """None is: where a token attends in a static clip is a match of its own, and differs from
        that of a moving one.
        """
        return torch.zeros(len(reference), dtype=torch.bool, device=reference.device)


def top(attention: Tensor, without: Tensor | None = None) -> Tensor:
    """The highest of the last axis and its index, as float (..., 2); places of `without` do not
    count, and where there is no other it is -1.
    """
    found = (attention if without is None else attention.masked_fill(without, -1)).max(dim=-1)
    return torch.stack([found.values, found.indices.to(attention.dtype)], dim=-1)


def strongest(scores: Tensor, temperature: float) -> Tensor:
    return top((scores * temperature).softmax(dim=-1))


def at(attention: Tensor, reference: Tensor) -> Tensor:
    """What attention is more than the reference where the reference is highest."""
    value, index = reference.unbind(-1)
    return attention.gather(-1, index.long()[..., None])[..., 0] - value
