"""Spatial marginal mean: its oracles, and that appearance does not enter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion.smm import (
    SpatialMarginalMean,
    marginal_loss,
    published_marginal_loss,
    spatial_mean,
)

GRID = TokenGrid(6, 3, 4)


def means_of(seed: int, clips: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(
        clips, GRID.frames, 32, generator=torch.Generator().manual_seed(seed), dtype=dtype
    )


def test_a_clip_has_one_frame_th_with_itself() -> None:
    means = means_of(0).requires_grad_()
    loss = marginal_loss(means, means.detach())
    torch.testing.assert_close(loss, torch.full((2,), 1 / 6), rtol=0, atol=1e-6)
    assert torch.autograd.grad(loss.sum(), means)[0].isfinite().all()
    torch.testing.assert_close(
        published_marginal_loss(means, means.detach()), torch.zeros(2), rtol=0, atol=1e-6
    )


def test_it_ignores_appearance() -> None:
    """A constant in each channel is appearance: the loss that would have caught the published
    anchor, whose own loss rises from 0 to .9.
    """
    means, constant = (
        means_of(0),
        30 * torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(1)),
    )
    torch.testing.assert_close(
        marginal_loss(means + constant, means), marginal_loss(means, means), rtol=0, atol=1e-6
    )
    assert (published_marginal_loss(means + constant, means) > 0.5).all()


def test_it_ignores_the_size_of_changes_and_the_place_of_tokens() -> None:
    means, reference = means_of(0), means_of(1)
    torch.testing.assert_close(
        marginal_loss(means * 7, reference), marginal_loss(means, reference), rtol=0, atol=1e-6
    )
    tokens = torch.randn(2, GRID.tokens, 32)
    order = torch.randperm(GRID.tokens_per_frame)
    moved = tokens.unflatten(1, (6, -1))[:, :, order].flatten(1, 2)
    torch.testing.assert_close(
        spatial_mean(moved, GRID), spatial_mean(tokens, GRID), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("compat", [False, True])
def test_it_is_what_the_sheet_says(compat: bool) -> None:
    """Frame by frame, as the equation is written."""
    means, reference = means_of(0, 1)[0], means_of(1, 1)[0]
    losses = []
    for i in range(6):
        ours, theirs = means - (reference if compat else means)[i], reference - reference[i]
        losses.append(
            1 - torch.nn.functional.cosine_similarity(ours, theirs, dim=0 if compat else 1).mean()
        )
    loss = (published_marginal_loss if compat else marginal_loss)(means[None], reference[None])
    torch.testing.assert_close(loss[0], torch.stack(losses).mean(), rtol=0, atol=1e-6)


def test_the_opposite_motion_is_worst() -> None:
    means = means_of(0)
    torch.testing.assert_close(
        marginal_loss(-means, means), torch.full((2,), 2 - 1 / 6), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("loss", [marginal_loss, published_marginal_loss])
def test_gradients_are_exact(loss: object) -> None:
    reference = means_of(1, dtype=torch.float64)[:, :3, :4]
    assert torch.autograd.gradcheck(
        lambda means: loss(means, reference),
        means_of(0, dtype=torch.float64)[:, :3, :4].requires_grad_(),
    )


def test_a_clip_in_which_nothing_changes_is_static() -> None:
    signal, still = (
        SpatialMarginalMean(1),
        torch.randn(2, 1, GRID.tokens_per_frame, 32).expand(-1, 6, -1, -1).flatten(1, 2),
    )
    reference = signal.reference(Recording(features={1: still}), GRID)
    assert signal.is_static(reference).tolist() == [True, True]
