"""What the embedded backbone is taught about correspondences is where tokens really go."""

import math

import pytest
import torch

from datamodules.pretraining import token_landing
from datamodules.synthetic import MOTIONS, World
from ditflow.core.sizes import TokenGrid
from trainers.pretraining.correspondence import correspondence_loss, landing_distribution

WORLD = World()


@pytest.mark.parametrize("motion", MOTIONS)
def test_tokens_land_where_the_flow_says(motion: str) -> None:
    clip = WORLD.clip(4, motion)
    landing, seen = token_landing(clip, 7, 8)
    centres = TokenGrid(7, 8, 8).coordinates("cpu")
    moved, visible = clip.advance(
        2, 10, (centres + 0.5) * 8 - 0.5
    )  # latent frames 1 and 3 are around pixel frames 2 and 10
    torch.testing.assert_close((landing[1, 3] + 0.5) * 8 - 0.5, moved, rtol=0, atol=1e-3)
    assert torch.equal(seen[1, 3], visible)
    torch.testing.assert_close(
        landing.diagonal().permute(2, 0, 1), centres.expand(7, -1, -1), rtol=0, atol=1e-4
    )


def test_a_landing_is_the_mean_of_its_weights() -> None:
    landing = torch.rand(2, 3, 3, 16, 2) * 3
    weights = landing_distribution(landing, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 3, 16))
    torch.testing.assert_close(weights @ TokenGrid(1, 4, 4).coordinates("cpu"), landing)
    assert torch.equal(
        landing_distribution(torch.full((1, 1, 1, 1, 2), -0.4), 4),
        landing_distribution(torch.zeros(1, 1, 1, 1, 2), 4),
    )


def test_correspondence_loss_of_attention_that_is_right_wrong_and_unsure() -> None:
    frames, tokens = 2, 4
    target = torch.eye(tokens)[[1, 0, 3, 2]].expand(1, frames, frames, tokens, tokens)
    seen = torch.ones(1, frames, frames, tokens, dtype=torch.bool)
    key = (
        torch.eye(tokens).repeat(frames, 1)[None, :, None] * 60
    )  # (B, N, A, D): a key is its place
    right, wrong = (
        torch.eye(tokens)[order].repeat(frames, 1)[None, :, None]
        for order in ([1, 0, 3, 2], [0, 1, 2, 3])
    )
    assert (
        correspondence_loss(right, key, target, seen)
        < 1e-6
        < 10
        < correspondence_loss(wrong, key, target, seen)
    )
    assert float(correspondence_loss(right * 0, key, target, seen)) == pytest.approx(
        math.log(tokens)
    )
    assert (
        float(correspondence_loss(wrong, key, target, seen & False)) == 0.0
    )  # nothing in sight: nothing to learn


def test_a_token_out_of_sight_and_its_own_frame_do_not_count() -> None:
    query, key = torch.randn(1, 8, 2, 4), torch.randn(1, 8, 2, 4)
    target = torch.rand(1, 2, 2, 4, 4).softmax(-1)
    seen = torch.rand(1, 2, 2, 4) < 0.5
    blind = torch.where(seen[..., None], target, torch.rand(target.shape))
    for frame in range(2):
        blind[:, frame, frame] = 0.0
    assert torch.equal(
        correspondence_loss(query, key, target, seen), correspondence_loss(query, key, blind, seen)
    )
