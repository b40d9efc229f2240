"""MotionClone: its oracles for attention over time and across frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion.attention import across_time
from ditflow.motion.motionclone import MotionClone

GRID = TokenGrid(4, 3, 5)


def heads_of(
    seed: int,
    clips: int = 2,
    heads: int = 3,
    head_dim: int = 8,
    grid: TokenGrid = GRID,
    dtype: torch.dtype = torch.float32,
) -> Recording:
    draw = torch.Generator().manual_seed(seed)
    query, key = 2 * torch.randn(
        2, clips, grid.tokens, heads, head_dim, generator=draw, dtype=dtype
    )
    return Recording(query={1: query}, key={1: key})


def attention_of(recording: Recording, grid: TokenGrid = GRID) -> Tensor:
    return across_time(recording.query[1], recording.key[1], grid).softmax(-1)


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("mode", ["time", "frames"])
def test_a_clip_has_0_with_itself_and_more_with_another(mode: str, exclude_self: bool) -> None:
    signal, recording = MotionClone(1, mode=mode, exclude_self=exclude_self), heads_of(0)
    reference = signal.reference(recording, GRID)
    torch.testing.assert_close(
        signal.loss(recording, GRID, reference), torch.zeros(2), rtol=0, atol=1e-12
    )
    assert (signal.loss(heads_of(1), GRID, reference) > 0.01).all()


def test_attention_over_time_is_the_diagonal_of_all_attention_scores() -> None:
    """Slices of the full scores at equal places; rows of their softmax sum to 1; the highest of F
    is 1/F at least.
    """
    recording = heads_of(0)
    full = (
        torch.einsum("bqad,bkad->baqk", recording.query[1], recording.key[1]) / 8**0.5
    )  # (B, A, N, N)
    places = (
        full.unflatten(2, (4, 15)).unflatten(-1, (4, 15)).diagonal(dim1=3, dim2=5)
    )  # (B, A, F, F, S)
    torch.testing.assert_close(
        across_time(recording.query[1], recording.key[1], GRID),
        places.movedim(-1, 2),
        rtol=0,
        atol=1e-5,
    )
    assert attention_of(recording).shape == (2, 3, 15, 4, 4)
    torch.testing.assert_close(attention_of(recording).sum(-1), torch.ones(2, 3, 15, 4))
    value, index = MotionClone(1).reference(recording, GRID).unbind(-1)
    assert ((value >= 1 / 4) & (value <= 1)).all() and set(index.unique().tolist()) == {0, 1, 2, 3}


def test_the_mean_is_the_papers_sum_of_squares() -> None:
    """Equation 6: || M * (A_ref - A) ||^2, with the mask of the reference's top 1."""
    recording, other = heads_of(0), heads_of(1)
    mask = torch.nn.functional.one_hot(attention_of(recording).argmax(-1), 4)
    paper = (mask * (attention_of(recording) - attention_of(other))).square().flatten(1).sum(1)
    loss = MotionClone(1).loss(other, GRID, MotionClone(1).reference(recording, GRID))
    torch.testing.assert_close(loss * (3 * 15 * 4), paper, rtol=1e-5, atol=0)


def test_without_itself_a_token_has_its_strongest_attention_elsewhere() -> None:
    recording = heads_of(0)
    index = MotionClone(1, exclude_self=True).reference(recording, GRID)[..., 1]
    assert (index != torch.arange(4)).all() and (
        MotionClone(1).reference(recording, GRID)[..., 1] == torch.arange(4)
    ).any()


def test_across_frames_it_reads_the_softmax_of_mean_scores_in_each_frame() -> None:
    recording = heads_of(0)
    scores = torch.einsum("bqad,bkad->baqk", recording.query[1], recording.key[1]).mean(1) / 8**0.5
    strongest = (
        scores.unflatten(1, (4, 15)).unflatten(-1, (4, 15)).softmax(-1).max(-1)
    )  # (B, F, S, F)
    value, index = MotionClone(1, mode="frames").reference(recording, GRID).unbind(-1)
    torch.testing.assert_close(value, strongest.values.transpose(2, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(index, strongest.indices.transpose(2, 3).float(), rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["time", "frames"])
def test_a_single_frame_without_itself_leaves_nothing_to_match(mode: str) -> None:
    signal, recording, grid = (
        MotionClone(1, mode=mode, exclude_self=True),
        heads_of(0),
        TokenGrid(1, 4 * GRID.height, GRID.width),
    )
    torch.testing.assert_close(
        signal.loss(heads_of(1), grid, signal.reference(recording, grid)),
        torch.zeros(2),
        check_dtype=False,
    )


def test_across_frames_a_frame_with_itself_can_be_left_out() -> None:
    recording, other = heads_of(0), heads_of(1)
    reference = MotionClone(1, mode="frames").reference(recording, GRID)
    attention = (
        torch.einsum("bqad,bkad->baqk", other.query[1], other.key[1])
        .mean(1)
        .div(8**0.5)
        .unflatten(1, (4, 15))
        .unflatten(-1, (4, 15))
        .softmax(-1)
    )
    errors = (
        attention.transpose(2, 3).gather(-1, reference[..., 1:].long())[..., 0] - reference[..., 0]
    )
    for exclude_self, counted in (
        (False, torch.ones(4, 4, dtype=torch.bool)),
        (True, ~torch.eye(4, dtype=torch.bool)),
    ):
        wanted = errors.square()[:, counted].flatten(1).mean(1)
        loss = MotionClone(1, mode="frames", exclude_self=exclude_self).loss(other, GRID, reference)
        torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-7)


def test_a_higher_temperature_is_sharper() -> None:
    soft, sharp = (
        MotionClone(1, temperature=temperature).reference(heads_of(0), GRID)[..., 0]
        for temperature in (1.0, 4.0)
    )
    assert (sharp >= soft - 1e-6).all() and sharp.mean() > soft.mean()


@pytest.mark.parametrize("mode", ["time", "frames"])
def test_gradients_are_exact(mode: str) -> None:
    grid = TokenGrid(2, 2, 2)
    signal, recording, other = (
        MotionClone(1, mode=mode),
        *(heads_of(seed, 1, 2, 2, grid, torch.float64) for seed in (0, 1)),
    )
    reference = signal.reference(recording, grid)
    query, key = other.query[1].requires_grad_(), other.key[1].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q, k: signal.loss(Recording(query={1: q}, key={1: k}), grid, reference), (query, key)
    )
