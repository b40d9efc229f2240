"""Updates other than Adam, guidance without a signal, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ditflow.core.noise import CLEAN
from ditflow.core.schedule import DenoisingSchedule
from ditflow.models import Model
from ditflow.motion import AttentionMotionFlow, MotionClone, MotionFeature, SpatialMarginalMean
from ditflow.sampling.control import Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.loop import denoising_step, sample
from ditflow.sampling.optimise import score_scale
from ditflow.sampling.reference import Reference, reference_motion
from ditflow.sampling.state import State, clip_generator
from tests.guided import guided_step
from tests.registry import SOME, picture_for, size_of, tiny_backbone

STEPS = 4
SCORE = MotionGuidance(MotionClone(2), "latents", (1, 3), (3.0, 3.0), inner_steps=1, update="score")
TEXT, NEGATIVE = (
    torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(1)),
    torch.ones(1, 16, 32),
)


def begun(backbone: Model, guidance: MotionGuidance) -> tuple[State, Reference]:
    state = guidance.start(backbone, size_of(backbone), ["x"], [0])
    latents = torch.randn(state.noise.shape, generator=torch.Generator().manual_seed(2))
    return state, reference_motion(
        backbone, guidance.signal, latents, torch.zeros(1, 16, 32), ["x"], noise=state.noise
    )


def states_of(backbone: Model, guidance: MotionGuidance) -> list[State]:
    state, reference = begun(backbone, guidance)
    states = [state]
    for _ in range(STEPS):
        states.append(
            guided_step(
                backbone,
                guidance,
                backbone.schedule(STEPS),
                states[-1],
                reference=reference,
                text=TEXT,
                negative=NEGATIVE,
            )
        )
    return states


def gradient_of(
    backbone: Model, guidance: MotionGuidance, state: State, reference: Reference
) -> Tensor:
    """Of the loss at the latents, without injection."""
    step, latents = backbone.schedule(STEPS)[state.step], state.latents.clone().requires_grad_()
    with backbone.tapped([2], stop_early=True) as recording:
        backbone.predict(latents, step.timestep, TEXT)
        loss = guidance.signal.loss(
            recording, backbone.spec.compression.grid_of(latents), reference.motion
        )
        return torch.autograd.grad(loss.sum(), latents)[0]


@pytest.mark.parametrize("kind", SOME)
def test_score_guidance_is_the_additive_form(kind: str) -> None:
    """The step without guidance, minus the rate times the noise of both levels times the gradient
    at the latents (equation 2, as its code has it).
    """
    backbone, guidance = tiny_backbone(kind), replace(SCORE, injection_blocks=())
    reference = begun(backbone, guidance)[1]
    state = states_of(backbone, guidance)[1]
    schedule = backbone.schedule(STEPS)
    guided = guided_step(
        backbone, guidance, schedule, state, reference=reference, text=TEXT, negative=NEGATIVE
    )
    plain = guided_step(
        backbone,
        replace(guidance, window=(0, 0)),
        schedule,
        state,
        reference=reference,
        text=TEXT,
        negative=NEGATIVE,
    )
    scale = schedule[1].level.noise * schedule[2].level.noise
    wanted = plain.latents - 3.0 * scale * gradient_of(backbone, guidance, state, reference)
    assert not torch.equal(guided.latents, plain.latents)
    torch.testing.assert_close(
        guided.latents, wanted, rtol=0, atol=1e-5
    )  # a difference of latents of size 4, in float32
    torch.testing.assert_close(
        guided.history[-1], state.latents, rtol=0, atol=0
    )  # what was denoised, and what injection denoises again


def test_additive_guidance_is_a_ddim_step_and_recomputed_clean_latents_turn_its_sign() -> None:
    """MotionClone's code steps by the direction eps - sqrt(1 - a) g with clean latents of the
    unchanged eps. With clean latents of the changed eps, as the paper's equation reads, the step
    goes along +g."""
    draw = torch.Generator().manual_seed(0)
    z, eps, g = torch.randn(3, 1000, generator=draw, dtype=torch.float64)
    now, following = 0.3, 0.4  # signal shares at this and at the next, cleaner timestep

    def step(clean_of: Tensor, direction: Tensor) -> Tensor:
        clean = (z - (1 - now) ** 0.5 * clean_of) / now**0.5
        return following**0.5 * clean + (1 - following) ** 0.5 * direction

    plain, changed = step(eps, eps), eps - (1 - now) ** 0.5 * g
    torch.testing.assert_close(
        step(eps, changed), plain - ((1 - now) * (1 - following)) ** 0.5 * g, rtol=0, atol=4e-7
    )
    assert (step(eps, changed) - plain) @ g < 0 < (step(changed, changed) - plain) @ g


def test_the_last_step_has_no_noise_to_guide() -> None:
    backbone = tiny_backbone("rotary")
    scales = [score_scale(step) for step in backbone.schedule(STEPS)]
    assert scales[-1] == 0 and all(
        earlier > later for earlier, later in zip(scales, scales[1:], strict=False)
    )


def test_gradient_descent_is_the_variable_minus_rate_times_gradient() -> None:
    backbone = tiny_backbone("rotary")
    guidance = MotionGuidance(
        MotionClone(2),
        "latents",
        0.25,
        (5.0, 5.0),
        inner_steps=1,
        injection_blocks=(),
        update="sgd",
    )
    state, reference = begun(backbone, guidance)
    after = guided_step(
        backbone,
        guidance,
        backbone.schedule(STEPS),
        state,
        reference=reference,
        text=TEXT,
        negative=NEGATIVE,
    )
    torch.testing.assert_close(
        after.parameter,
        state.latents - 5.0 * gradient_of(backbone, guidance, state, reference),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", SOME)
def test_without_signal_and_injection_it_is_plain_sampling(kind: str) -> None:
    backbone, guidance = tiny_backbone(kind), MotionGuidance(None, window=0, injection_blocks=())
    *_, last = states_of(backbone, guidance)
    generators = [clip_generator("x", 0)]
    noise = torch.randn(last.noise.shape[1:], generator=generators[0])[None]
    torch.testing.assert_close(
        last.latents,
        sample(
            backbone,
            backbone.schedule(STEPS),
            Prompt(TEXT, NEGATIVE, picture_for(backbone, noise)),
            State.begin(noise, generators),
        ).latents,
        rtol=0,
        atol=0,
    )
    assert last.history == last.losses == ()


def test_without_signal_keys_and_values_still_come_from_the_clip_in_the_window() -> None:
    backbone, injection = tiny_backbone("rotary"), MotionGuidance(None, window=(1, 3))
    states, plain = (
        states_of(backbone, injection),
        states_of(backbone, replace(injection, window=0)),
    )
    assert torch.equal(states[1].latents, plain[1].latents) and not torch.equal(
        states[2].latents, plain[2].latents
    )
    state = states[3]
    plain_step = backbone.schedule(STEPS)[3]
    after = denoising_step(backbone, plain_step, Prompt(TEXT, NEGATIVE), state)
    torch.testing.assert_close(states[4].latents, after.latents, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"update": "newton"}, "unknown update 'newton': it is one of adam, sgd, score"),
        (
            {"variable": "rotary_tables"},
            "update 'score' is one gradient of the latents at each step, so variable 'rotary_",
        ),
        (
            {"inner_steps": 5},
            "inner_steps=5 make no sense: use variable 'latents' and inner_steps=1",
        ),
    ],
)
def test_updates_that_make_no_sense(changed: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(SCORE, **changed)


def test_costs_in_forward_passes() -> None:
    """50 steps of two passes; 10 guided ones: a sixth of block 0 for keys and values, and 5 x
    (forward + 2 for backward) as deep as the signal reads.
    """
    schedule, guided = (
        DenoisingSchedule(tuple(range(999, 0, -20)), (CLEAN,) * 50),
        {"variable": "latents", "window": 0.2},
    )
    spec = replace(tiny_backbone("rotary").spec, blocks=40)
    injection = 10 / 6 / 40
    assert (
        MotionGuidance(None, window=0.0, injection_blocks=()).forward_equivalents(schedule, spec)
        == 100
    )
    assert MotionGuidance(None, window=0.2).forward_equivalents(schedule, spec) == pytest.approx(
        100 + injection
    )
    alone = replace(schedule, guidance_scale=1.0)
    assert MotionGuidance(None, window=0.0).forward_equivalents(alone, spec) == 50
    depth = (20 + 1 / 6) / 40
    assert MotionGuidance(AttentionMotionFlow(20), **guided).forward_equivalents(
        schedule, spec
    ) == pytest.approx(100 + injection + depth * (1 + 150))
    assert MotionGuidance(
        AttentionMotionFlow(20), **guided, checkpointing=True
    ).forward_equivalents(schedule, spec) == pytest.approx(100 + injection + depth * 201)
    assert MotionGuidance(SpatialMarginalMean(19), **guided).forward_equivalents(
        schedule, spec
    ) == pytest.approx(100 + injection + 151 / 2)
    assert MotionGuidance(
        SpatialMarginalMean(19, reference_timestep="match"), **guided
    ).forward_equivalents(schedule, spec) == pytest.approx(100 + injection + 160 / 2)
    assert MotionGuidance(
        SpatialMarginalMean(19, reference_timestep="inverted"), **guided
    ).forward_equivalents(schedule, spec) == pytest.approx(100 + injection + 50 + 160 / 2)
    assert MotionGuidance(MotionFeature(19, channels="pans"), **guided).forward_equivalents(
        schedule, spec
    ) == pytest.approx(100 + injection + 155 / 2)
    assert replace(SCORE, window=0.2).forward_equivalents(schedule, spec) == pytest.approx(
        100 + injection + (2 + 1 / 6) / 40 * 31
    )
