"""UniPC: the stock scheduler's steps, and what becomes of latents that were changed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from ditflow.core.noise import CLEAN, NoiseLevel
from ditflow.core.unipc import OPTIONS, unipc
from ditflow.models import ModelError
from tests.closeness import assert_close_in_norm
from tests.registry import UNIPC, tiny_backbone

STEPS, EDITED = 6, 3


def stock_of(steps: int, shift: float = 3.0, begin: int = 0) -> UniPCMultistepScheduler:
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    scheduler.set_timesteps(steps)
    scheduler.set_begin_index(begin)
    return scheduler


def levels_of(scheduler: UniPCMultistepScheduler) -> list[NoiseLevel]:
    return [NoiseLevel(1 - sigma, sigma) for sigma in scheduler.sigmas[:-1].tolist()]


def output(latents: Tensor, level: NoiseLevel) -> Tensor:
    """A velocity that bends with the latents and the noise."""
    return torch.tanh(2 * latents) * level.noise - latents


def stepped(latents: Tensor, levels: list[NoiseLevel], index: int, memory: Tensor | None):
    level = levels[index]
    return unipc(latents, latents - level.noise * output(latents, level), levels, index, memory)


def stock_steps(scheduler: UniPCMultistepScheduler, latents: Tensor, first: int = 0) -> Tensor:
    for level, timestep in list(zip(levels_of(scheduler), scheduler.timesteps, strict=True))[
        first:
    ]:
        latents = scheduler.step(output(latents, level), timestep, latents, return_dict=False)[0]
    return latents


def noise() -> Tensor:
    return torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("steps", "shift"), [(1, 3.0), (2, 5.0), (3, 1.0), (50, 3.0), (50, 12.0)])
def test_its_steps_are_the_stock_schedulers(steps: int, shift: float) -> None:
    """Both compute in float32: 50 steps round the latents by a few 1e-8 each."""
    scheduler, latents, memory = stock_of(steps, shift), noise(), None
    for index in range(steps):
        latents, memory = stepped(latents, levels_of(scheduler), index, memory)
    assert_close_in_norm(latents, stock_steps(scheduler, noise()), largest=1e-5)


def test_a_changed_clip_begins_anew_and_its_neighbour_goes_on() -> None:
    scheduler, latents, memory = stock_of(STEPS), noise(), None
    levels, change = levels_of(scheduler), torch.randn(noise()[0].shape)
    for index in range(EDITED):
        latents, memory = stepped(latents, levels, index, memory)
    edited = torch.stack([latents[0] + change, latents[1]])
    level, following = levels[EDITED : EDITED + 2]
    clean = edited - level.noise * output(edited, level)
    after, remembered = stepped(edited, levels, EDITED, memory)
    euler = following.mix(clean, (edited - level.signal * clean) / level.noise)
    torch.testing.assert_close(after[0], euler[0], rtol=0, atol=0)
    for index in range(EDITED + 1, STEPS):
        after, remembered = stepped(after, levels, index, remembered)
    anew = stock_steps(stock_of(STEPS, begin=EDITED), edited[:1], EDITED)
    assert_close_in_norm(after[:1], anew, largest=1e-5)
    alone = noise()[1:]
    memory = None
    for index in range(STEPS):
        alone, memory = stepped(alone, levels, index, memory)
    torch.testing.assert_close(after[1:], alone, rtol=0, atol=0)


def test_the_stock_corrector_would_undo_the_change() -> None:
    """Which is why there is a new beginning: with the predicted clean latents held fixed, the stock
    scheduler's next latents do not know that theirs were changed.
    """
    following = []
    for change in (0.0, 1.0):
        scheduler, latents = stock_of(STEPS), noise()
        for index, (level, timestep) in enumerate(
            zip(levels_of(scheduler)[:3], scheduler.timesteps, strict=False)
        ):
            clean = 0.1 * index * noise()
            latents = latents + change * (index == 2)
            velocity = (latents - clean) / level.noise
            latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        following.append(latents)
    torch.testing.assert_close(*following, rtol=0, atol=1e-6)


def test_the_last_step_gives_the_clean_latents() -> None:
    levels = levels_of(stock_of(1))
    clean, _ = stepped(noise(), levels, 0, None)
    expected = noise() - levels[0].noise * output(noise(), levels[0])
    torch.testing.assert_close(clean, CLEAN.mix(expected, noise()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (UniPCMultistepScheduler, "disable_corrector", [0, 1]),
        (UniPCMultistepScheduler, "thresholding", True),
        (UniPCMultistepScheduler, "final_sigmas_type", "sigma_min"),
        (UniPCMultistepScheduler, "use_dynamic_shifting", True),
        (FlowMatchEulerDiscreteScheduler, "use_dynamic_shifting", True),
        (FlowMatchEulerDiscreteScheduler, "invert_sigmas", True),
        (FlowMatchEulerDiscreteScheduler, "stochastic_sampling", True),
    ],
)
def test_what_is_not_followed_is_refused(kind: Any, option: str, value: Any) -> None:
    """An option is the stock scheduler's, which has what is solved here unless it is told."""
    assert kind().config[option] == OPTIONS[option]
    model = tiny_backbone("wan")
    flow = {} if kind is FlowMatchEulerDiscreteScheduler else UNIPC
    model.scheduler = kind(**flow, **{option: value})
    with pytest.raises(ModelError, match=f"has {option} {re.escape(repr(value))}, .* Save it with"):
        model.schedule(4)
