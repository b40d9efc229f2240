"""Motion feature: its oracles, its channels, and the pans that these may be learned from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion.moft import MotionFeature, mean_free, motion_channels, pans, token_loss

GRID = TokenGrid(4, 3, 4)


def features_of(seed: int, dtype: torch.dtype = torch.float32, hidden: int = 50) -> Tensor:
    return torch.randn(
        2, GRID.tokens, hidden, generator=torch.Generator().manual_seed(seed), dtype=dtype
    )


def loss_of(signal: MotionFeature, features: Tensor, reference: Tensor) -> Tensor:
    seen = signal.reference(Recording(features={1: reference}), GRID)
    return signal.loss(Recording(features={1: features}), GRID, seen)


def test_oracles() -> None:
    signal, features = MotionFeature(1), features_of(0)
    field = torch.randn(2, 1, GRID.tokens_per_frame, 50).expand(-1, 4, -1, -1).flatten(1, 2)
    for changed, wanted in (
        (features, 0),
        (features + field, 0),
        (features * 2, 0),
        (-features, 2),
        (field, 1),
    ):
        torch.testing.assert_close(
            loss_of(signal, changed, features), torch.full((2,), float(wanted)), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize(("hidden", "count"), [(3072, 122), (1920, 76), (50, 2), (8, 1)])
def test_so_many_channels_carry_motion(hidden: int, count: int) -> None:
    features = torch.randn(6, hidden, generator=torch.Generator().manual_seed(0))
    if (
        hidden > 100
    ):  # the decomposition of thousands of channels takes seconds: a plane of them is enough
        assert int(0.04 * hidden) == count
        return
    assert len(motion_channels(features, 0.04)) == count


def test_channels_are_those_of_the_first_singular_vector_and_its_sign_does_not_matter() -> None:
    features = features_of(0)[0] * torch.linspace(0.1, 3, 50)
    leading = torch.linalg.svd(features, full_matrices=False).Vh[0].abs().topk(5).indices
    assert (
        set(motion_channels(features, 0.1).tolist())
        == set(leading.tolist())
        == set(motion_channels(-features, 0.1).tolist())
    )


def test_each_clip_has_its_own_channels() -> None:
    features = torch.stack(
        [
            features_of(0)[0] * weights
            for weights in (torch.linspace(0.1, 9, 50), torch.linspace(9, 0.1, 50))
        ]
    )
    channels = (
        MotionFeature(1, proportion=0.1).reference(Recording(features={1: features}), GRID).channels
    )
    assert not set(channels[0].tolist()) & set(channels[1].tolist())


def test_gradients_are_exact() -> None:
    grid = TokenGrid(2, 1, 2)
    features, reference = (torch.randn(2, grid.tokens, 6, dtype=torch.float64) for _ in range(2))
    wanted = mean_free(reference, grid)
    assert torch.autograd.gradcheck(
        lambda x: token_loss(mean_free(x, grid), wanted), features.requires_grad_()
    )


def test_pans_slide_by_one_token_a_frame() -> None:
    latents = torch.randn(2, 4, 3, 6, 8)
    left, right, up, down = pans(latents, token=2)
    for frame in range(4):
        torch.testing.assert_close(
            right[:, frame, ..., 2 * frame :], latents[:, 0, ..., : 8 - 2 * frame], rtol=0, atol=0
        )
        torch.testing.assert_close(
            left[:, frame, ..., : 8 - 2 * frame], latents[:, 0, ..., 2 * frame :], rtol=0, atol=0
        )
        torch.testing.assert_close(
            down[:, frame, ..., min(2 * frame, 6) :, :],
            latents[:, 0, ..., : max(6 - 2 * frame, 0), :],
            rtol=0,
            atol=0,
        )
    torch.testing.assert_close(up.flip(1)[:, -1], latents[:, 0], rtol=0, atol=0)


def test_channels_of_pans_do_not_come_from_the_reference() -> None:
    """Five clips are shown for each reference, the references first; a reference that moves on
    other channels keeps those of the pans.
    """
    signal = MotionFeature(1, proportion=0.1, channels="pans")
    assert len(signal.shown(torch.randn(2, 4, 3, 6, 8), GRID)) == 2 * signal.clips_shown == 10
    own, panned = (
        features_of(0) * torch.linspace(9, 0.1, 50),
        torch.cat([features_of(seed) for seed in range(1, 5)]) * torch.linspace(0.1, 9, 50),
    )
    reference = signal.reference(Recording(features={1: torch.cat([own, panned])}), GRID)
    assert (reference.channels >= 25).all() and reference.values.shape == (2, 4, 12, 5)


def test_the_mean_over_a_frame_is_compared_by_its_square() -> None:
    signal, features = MotionFeature(1, region="frame"), features_of(0)
    order = torch.randperm(GRID.tokens_per_frame)
    shuffled = features.unflatten(1, (4, -1))[:, :, order].flatten(1, 2)
    torch.testing.assert_close(
        loss_of(signal, shuffled, features), torch.zeros(2), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        loss_of(signal, -features, features), 4 * loss_of(signal, features * 0, features)
    )
