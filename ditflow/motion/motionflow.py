"""MotionFlow, reconstructed: keep the subject's attention where the subject is in the reference.

Meral et al. (2412.05275) published neither code nor, in what could be read, the exact losses: this
is a reconstruction from its figures and abstracts.
From the reference, seen with its caption: cross attention A (a softmax over the words of the
caption at each video token, averaged over heads and over the subject's tokens), and in each frame
the mask M of tokens where A > tau * max A. Three losses keep attention inside the masks, each
averaged over frames or over the masked tokens: cross attention of the generated prompt's subject,
1 - sum(M A) / sum(A); self attention of masked tokens, 1 - the attention that stays in M; and
temporal attention of masked tokens, 1 - the attention to frames that have the token in M too.
Departures: one block of a transformer, whose attention to text is its cross attention where it has
one and its joint attention where not; the reference is seen clean, once. The paper inverts it, and
has masks of each step: `reference_timestep="inverted"`. There a video also begins at the inverted
noise, here at its own. A mask says where the subject is, not how its parts move.
"""

# B batch, F latent frames, S = H*W tokens per frame, N = F*S video tokens, L text tokens, A heads,
# D head dim

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion.attention import across_frames, across_time, single, within_frames
from ditflow.motion.base import MotionSignal, Subject, Words

Temporal = Literal["place", "frames"]


class SubjectMasks(NamedTuple):
    """Where the subject is, float (B, F, S) of 0 and 1, and what the tokens of the generated prompt
    are, as in `Words`, int (B, L).
    """

    masks: Tensor
    prompt: Tensor


@dataclass(frozen=True)
class MotionFlow(MotionSignal[SubjectMasks]):
    """The attention of a subject in one block.

    Attributes:
        subject: words of the prompt, or the place of one, counted from 0, negative from the end. A
            clip's own subject comes first.
        caption_subject: the same in the reference's caption; None is the same as in the prompt.
        threshold: tau, of the highest cross attention in a frame.
        cross_weight, self_weight, temporal_weight: of the losses.
        over: temporal attention to the same place in all frames, or to the subject's mask in all
            other frames.
    """

    name = "motionflow"

    subject: Subject = 1
    caption_subject: Subject | None = None
    threshold: float = 0.4
    cross_weight: float = 1.0
    self_weight: float = 1.0
    temporal_weight: float = 1.0
    over: Temporal = "place"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold < 1:
            raise ValueError(
                f"threshold={self.threshold}: the part of the highest attention in a frame is at "
                "least 0 and below 1."
            )
        if not all(0 <= weight < math.inf for weight in self.weights) or not any(self.weights):
            raise ValueError(
                f"weights {self.weights} of cross, self and temporal attention must be finite, not "
                "below 0, and one of them above."
            )
        if self.over not in get_args(Temporal):
            raise ValueError(f"over={self.over!r}: it is {' or '.join(get_args(Temporal))}.")

    @property
    def subjects(self) -> tuple[Subject, Subject | None]:
        return self.subject, self.caption_subject

    @property
    def weights(self) -> tuple[float, float, float]:
        return self.cross_weight, self.self_weight, self.temporal_weight

    @property
    def capture(self) -> tuple[int, ...]:
        return (self.read_block,)

    @property
    def text(self) -> tuple[int, ...]:
        return (self.read_block,)

    @torch.no_grad()
    def reference(
        self, recording: Recording, grid: TokenGrid, words: Words | None = None
    ) -> SubjectMasks:
        assert words is not None, (
            "whoever shows the reference gives the words of a signal that reads them"
        )
        attention = cross_attention(
            recording.text_query[self.read_block],
            recording.text_key[self.read_block],
            grid,
            words.caption,
        )
        return SubjectMasks(subject_masks(attention, self.threshold), words.prompt)

    def loss(self, recording: Recording, grid: TokenGrid, reference: SubjectMasks) -> Tensor:
        query, key = recording.query[self.read_block], recording.key[self.read_block]
        loss = torch.zeros(len(query), device=query.device)
        if self.cross_weight:
            attention = cross_attention(
                recording.text_query[self.read_block],
                recording.text_key[self.read_block],
                grid,
                reference.prompt,
            )
            loss = loss + self.cross_weight * cross_loss(attention, reference.masks)
        if self.self_weight:
            loss = loss + self.self_weight * self_loss(query, key, grid, reference.masks)
        if self.temporal_weight:
            loss = loss + self.temporal_weight * (
                temporal_loss if self.over == "place" else subject_loss
            )(query, key, grid, reference.masks)
        return torch.where(self.is_static(reference), 0, loss)

    def is_static(self, reference: SubjectMasks) -> Tensor:
        """Clips in which the subject was not found."""
        return reference.masks.flatten(1).eq(0).all(dim=1)


def cross_attention(query: Tensor, text_key: Tensor, grid: TokenGrid, words: Tensor) -> Tensor:
    """Attention (B, F, S) of video tokens (B, N, A, D) to the subject among the words of a prompt
    with keys (B, L, A, D); `words` are (B, L).
    """
    key, words = (
        single(text_key)[:, words.ne(0).any(dim=0)],
        words[:, words.ne(0).any(dim=0)],
    )  # padding of all clips is left out
    frames = query.unflatten(1, (grid.frames, -1)).unbind(1)
    return torch.stack(
        [
            checkpoint(
                _to_subject, frame, key, words, use_reentrant=False, preserve_rng_state=False
            )
            for frame in frames
        ],
        dim=1,
    )


def _to_subject(frame: Tensor, key: Tensor, words: Tensor) -> Tensor:
    """(B, S): a frame at a time, since this is there for each head."""
    scores = torch.einsum("bsad,blad->basl", single(frame), key) / key.shape[-1] ** 0.5
    attention = (
        scores.masked_fill(words.eq(0)[:, None, None], torch.finfo(scores.dtype).min)
        .softmax(dim=-1)
        .mean(dim=1)
    )
    subject = words.eq(2).to(attention.dtype)
    mean: Tensor = (attention * subject[:, None]).sum(dim=-1) / subject.sum(
        dim=-1, keepdim=True
    ).clamp(min=1)
    return mean


def subject_masks(attention: Tensor, threshold: float) -> Tensor:
    """1 where attention (B, F, S) is above the threshold, as part of the highest in the frame."""
    return (attention > threshold * attention.amax(dim=-1, keepdim=True)).to(attention.dtype)


def cross_loss(attention: Tensor, masks: Tensor) -> Tensor:
    """(B,): the part of the attention to the subject that lies outside the masks, averaged over
    frames that have one.
    """
    outside = 1 - (masks * attention).sum(dim=-1) / (attention.sum(dim=-1) + 1e-8)
    return mean_where(outside, masks.amax(dim=-1))


def self_loss(query: Tensor, key: Tensor, grid: TokenGrid, masks: Tensor) -> Tensor:
    """(B,): the part of masked tokens' attention in their own frame that leaves the mask."""
    there = masks[:, :, None].expand(-1, -1, grid.tokens_per_frame, -1)
    return _mean_over_frames(1 - within_frames(query, key, grid, inside, there), masks)


def temporal_loss(query: Tensor, key: Tensor, grid: TokenGrid, masks: Tensor) -> Tensor:
    """(B,): the part of masked tokens' attention over time, at their own place, that goes to frames
    in whose mask they are not.
    """
    attention = across_time(query, key, grid).softmax(dim=-1).mean(dim=1)  # (B, S, F, F)
    kept = (attention * masks.mT[:, :, None]).sum(dim=-1).mT  # (B, F, S)
    return mean_where(1 - kept, masks)


def subject_loss(query: Tensor, key: Tensor, grid: TokenGrid, masks: Tensor) -> Tensor:
    """(B,): the part of masked tokens' attention in each other frame that leaves the mask of that
    frame.
    """
    pairs = masks[:, None, :, None].expand(-1, grid.frames, -1, grid.tokens_per_frame, -1)
    outside = 1 - across_frames(query, key, grid, inside, pairs)  # (B, F, F, S)
    other = 1 - torch.eye(grid.frames, device=masks.device, dtype=masks.dtype)
    return mean_where(outside, masks[:, :, None] * other[:, :, None])


def inside(scores: Tensor, masks: Tensor) -> Tensor:
    """How much attention falls into masks, both (B, f, S, S)."""
    return (scores.softmax(dim=-1) * masks).sum(dim=-1)


def mean_where(values: Tensor, weights: Tensor) -> Tensor:
    """The mean (B,) of values where their weight is 1; 0 where it never is."""
    return (values * weights).flatten(1).sum(dim=1) / weights.expand_as(values).flatten(1).sum(
        dim=1
    ).clamp(min=1)


def _mean_over_frames(values: Tensor, masks: Tensor) -> Tensor:
    """The mean (B,) over frames of each frame's mean where its mask is; frames without a mask are
    left out.
    """
    counts = masks.sum(dim=-1)
    return mean_where((values * masks).sum(dim=-1) / counts.clamp(min=1), counts.clamp(max=1))
