"""One formula for all processes: it inverts mixing, and its step is that of the schedulers."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, FlowMatchEulerDiscreteScheduler

from ditflow.core.noise import CLEAN, OUTPUT, NoiseLevel, Prediction, leading, level_of, separate

CLEAN_LATENTS, NOISE = torch.randn(
    2, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
)
SHARES = [0.01, 0.3, 0.71, 0.99]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_separate_inverts_the_mix(prediction: Prediction, share: float) -> None:
    """Up to float64's rounding, enlarged by at most 1 / signal = 10 where there is much noise."""
    level = level_of(share, prediction)
    clean_weight, noise_weight = OUTPUT[prediction](level)
    output = clean_weight * CLEAN_LATENTS + noise_weight * NOISE
    clean, noise = separate(level.mix(CLEAN_LATENTS, NOISE), output, level, prediction)
    torch.testing.assert_close(clean, CLEAN_LATENTS, rtol=0, atol=1e-13)
    torch.testing.assert_close(noise, NOISE, rtol=0, atol=1e-13)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_an_output_that_leads_to_clean_latents_has_these(
    prediction: Prediction, share: float
) -> None:
    """Up to float64's rounding, enlarged by at most 1 / noise = 10 and then 1 / signal = 10."""
    level = level_of(share, prediction)
    latents = level.mix(CLEAN_LATENTS, NOISE)
    output = leading(latents, CLEAN_LATENTS, level, prediction)
    found = separate(latents, output, level, prediction)
    torch.testing.assert_close(found, (CLEAN_LATENTS, NOISE), rtol=0, atol=1e-12)


@pytest.mark.parametrize("prediction", ["v", "flow"])
def test_all_noise_separates_too(prediction: Prediction) -> None:
    level = NoiseLevel(0.0, 1.0)
    u, w = OUTPUT[prediction](level)
    output = u * CLEAN_LATENTS + w * NOISE
    found = separate(level.mix(CLEAN_LATENTS, NOISE), output, level, prediction)
    torch.testing.assert_close(found, (CLEAN_LATENTS, NOISE), rtol=0, atol=1e-14)


@pytest.mark.parametrize("share", [0.0, *SHARES, 1.0])
@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_a_level_has_its_share_of_noise(prediction: Prediction, share: float) -> None:
    level = level_of(share, prediction)
    assert level.share == pytest.approx(share)
    kept = sum(level) if prediction == "flow" else level.signal**2 + level.noise**2
    assert kept == pytest.approx(1)


def test_clean_latents_are_mixed_with_nothing() -> None:
    assert CLEAN.mix(CLEAN_LATENTS, NOISE) is CLEAN_LATENTS


def test_a_step_is_the_step_of_ddim() -> None:
    """Float32 tables of the scheduler, whose square roots are rounded at 6e-8; values below 5."""
    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(10)
    signal = scheduler.alphas_cumprod.double()
    levels = [NoiseLevel(float(a**0.5), float((1 - a) ** 0.5)) for a in signal]
    timesteps = scheduler.timesteps.tolist()
    for now, following in zip(timesteps, timesteps[1:], strict=False):
        wanted, clean = scheduler.step(NOISE, now, CLEAN_LATENTS, return_dict=False)
        found, noise = separate(CLEAN_LATENTS, NOISE, levels[now], "v")
        torch.testing.assert_close(found, clean, rtol=0, atol=3e-6)
        torch.testing.assert_close(levels[following].mix(found, noise), wanted, rtol=0, atol=3e-6)


def test_a_step_is_the_step_of_euler_on_a_flow() -> None:
    """The scheduler steps in float32: latents below 5, rounded at 6e-8 of that a few times."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    levels = [NoiseLevel(1 - sigma, sigma) for sigma in scheduler.sigmas.double().tolist()]
    for index, timestep in enumerate(scheduler.timesteps):
        wanted = scheduler.step(NOISE, timestep, CLEAN_LATENTS, return_dict=False)[0]
        found = separate(CLEAN_LATENTS, NOISE, levels[index], "flow")
        torch.testing.assert_close(
            levels[index + 1].mix(*found), wanted.double(), rtol=0, atol=3e-6
        )
