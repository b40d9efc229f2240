"""MotionFlow, reconstructed: masks of a subject, and attention that should stay in them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion.base import Words
from ditflow.motion.motionflow import (
    MotionFlow,
    cross_attention,
    cross_loss,
    self_loss,
    subject_loss,
    subject_masks,
    temporal_loss,
)

GRID = TokenGrid(3, 4, 5)


def attention_of(seed: int, places: int = 20) -> Tensor:
    return torch.rand(2, 3, places, generator=torch.Generator().manual_seed(seed))


def heads_of(
    seed: int,
    clips: int = 2,
    heads: int = 2,
    head_dim: int = 8,
    grid: TokenGrid = GRID,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, clips, grid.tokens, heads, head_dim, generator=draw, dtype=dtype)
    return query, key, torch.randn(clips, 6, heads, head_dim, generator=draw, dtype=dtype)


WORDS = torch.tensor([[1, 2, 2, 1, 0, 0], [2, 1, 1, 1, 1, 0]])


def test_a_mask_holds_the_highest_and_narrows_with_the_threshold() -> None:
    attention = attention_of(0)
    for threshold in (0.0, 0.4, 0.9, 0.999999):
        masks = subject_masks(attention, threshold)
        assert masks.gather(-1, attention.argmax(-1, keepdim=True)).eq(1).all()
        assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert subject_masks(attention, 0.0).eq(1).all(), "the whole frame"
    assert subject_masks(attention, 0.999999).sum(-1).eq(1).all(), "the highest alone"


def test_cross_loss_is_the_part_that_lies_outside() -> None:
    attention = attention_of(0)
    masks = subject_masks(attention, 0.4)
    loss = cross_loss(attention, masks)
    assert ((loss >= 0) & (loss < 1)).all()
    torch.testing.assert_close(cross_loss(attention * 1000, masks), loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        cross_loss(attention * masks, masks), torch.zeros(2), rtol=0, atol=1e-6
    )
    assert cross_loss(attention, torch.zeros_like(masks)).tolist() == [0, 0]


def test_a_uniform_random_map_has_the_threshold_squared_with_itself() -> None:
    attention = attention_of(0, places=200_000)
    torch.testing.assert_close(
        cross_loss(attention, subject_masks(attention, 0.4)),
        torch.full((2,), 0.16),
        rtol=0,
        atol=2e-3,
    )  # 1 / sqrt(200,000)


def test_attention_to_the_subject_is_a_softmax_over_words() -> None:
    query, _, text = heads_of(0)
    wanted = []
    for clip, roles in enumerate(WORDS):
        real = text[clip, roles > 0]
        attention = torch.einsum("nad,lad->anl", query[clip], real).div(8**0.5).softmax(-1).mean(0)
        wanted.append(attention[:, roles[roles > 0] == 2].mean(-1).unflatten(0, (3, 20)))
    torch.testing.assert_close(
        cross_attention(query, text, GRID, WORDS), torch.stack(wanted), rtol=0, atol=1e-6
    )


def test_padding_and_other_clips_do_not_matter() -> None:
    query, _, text = heads_of(0)
    attention = cross_attention(query, text, GRID, WORDS)
    changed = torch.where(WORDS.eq(0)[..., None, None], 100.0, text)
    torch.testing.assert_close(
        cross_attention(query, changed, GRID, WORDS), attention, rtol=0, atol=0
    )
    torch.testing.assert_close(
        cross_attention(query[:1], text[:1], GRID, WORDS[:1]), attention[:1], rtol=0, atol=1e-6
    )


def test_self_temporal_and_subject_losses_are_what_leaves_the_masks() -> None:
    """Row by row, as the sheet writes them."""
    query, key, _ = heads_of(0)
    masks = subject_masks(attention_of(1), 0.6)
    scores = (
        torch.einsum("bqad,bkad->baqk", query, key).unflatten(2, (3, 20)).unflatten(-1, (3, 20))
        / 8**0.5
    )  # (B, A, F, S, F, S)
    mean = scores.mean(1)
    for clip in range(2):
        own, time, other = [], [], []
        for f in range(3):
            rows = [p for p in range(20) if masks[clip, f, p]]
            own.append(
                torch.stack(
                    [1 - (mean[clip, f, p, f].softmax(-1) * masks[clip, f]).sum() for p in rows]
                ).mean()
            )
            for p in rows:
                attention = scores[clip, :, f, p, :, p].softmax(-1).mean(0)
                time.append(1 - (attention * masks[clip, :, p]).sum())
                other += [
                    1 - (mean[clip, f, p, j].softmax(-1) * masks[clip, j]).sum()
                    for j in range(3)
                    if j != f
                ]
        torch.testing.assert_close(
            self_loss(query, key, GRID, masks)[clip], torch.stack(own).mean()
        )
        torch.testing.assert_close(
            temporal_loss(query, key, GRID, masks)[clip], torch.stack(time).mean()
        )
        torch.testing.assert_close(
            subject_loss(query, key, GRID, masks)[clip], torch.stack(other).mean()
        )


@pytest.mark.parametrize("loss", [self_loss, temporal_loss, subject_loss])
def test_masks_that_are_everything_or_nothing_leave_nothing_to_lose(loss) -> None:
    query, key, _ = heads_of(0)
    for masks in (torch.ones(2, 3, 20), torch.zeros(2, 3, 20)):
        torch.testing.assert_close(loss(query, key, GRID, masks), torch.zeros(2), rtol=0, atol=1e-6)


def test_frames_without_the_subject_are_left_out() -> None:
    attention, masks = attention_of(0), subject_masks(attention_of(0), 0.4)
    masks[:, 1] = 0
    torch.testing.assert_close(
        cross_loss(attention, masks), cross_loss(attention[:, [0, 2]], masks[:, [0, 2]])
    )


def test_the_loss_is_their_weighted_sum() -> None:
    query, key, text = heads_of(0)
    recording, seen = (
        Recording(query={1: query}, key={1: key}, text_query={1: query}, text_key={1: text}),
        Words(WORDS, WORDS.flip(0)),
    )
    losses = []
    for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 3, 0.5)):
        signal = MotionFlow(
            1, cross_weight=weights[0], self_weight=weights[1], temporal_weight=weights[2]
        )
        losses.append(signal.loss(recording, GRID, signal.reference(recording, GRID, seen)))
    torch.testing.assert_close(2 * losses[0] + 3 * losses[1] + 0.5 * losses[2], losses[3])


@pytest.mark.parametrize("over", ["place", "frames"])
def test_gradients_are_exact(over: str) -> None:
    grid = TokenGrid(2, 2, 2)
    query, key, text = (x.requires_grad_() for x in heads_of(0, 1, 2, 2, grid, torch.float64))
    signal, masks = (
        MotionFlow(1, over=over),
        torch.tensor([[[1.0, 1, 0, 0], [0, 1, 0, 0]]], dtype=torch.float64),
    )
    reference = type(
        signal.reference(
            Recording(query={1: query}, key={1: key}, text_query={1: query}, text_key={1: text}),
            grid,
            Words(WORDS[:1], WORDS[:1]),
        )
    )(masks, WORDS[:1])
    arguments = (query, key, text)
    assert torch.autograd.gradcheck(
        lambda q, k, t: signal.loss(
            Recording(query={1: q}, key={1: k}, text_query={1: q}, text_key={1: t}), grid, reference
        ),
        arguments,
    )
