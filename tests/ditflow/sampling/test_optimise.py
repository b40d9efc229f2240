"""Guided denoising: what a step does, that clips are independent, and that a killed run goes on bit
by bit.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from ditflow.core.sizes import VideoSize
from ditflow.models import ModelError
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling import optimise as module
from ditflow.sampling.control import Inputs, Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.optimise import guide
from ditflow.sampling.reference import Reference, reference_motion
from ditflow.sampling.state import State
from tests.families import assert_same_clip
from tests.guided import guided_step
from tests.registry import PAIRS, SOME_PAIRS, size_of, tiny_backbone

STEPS, NAMES = 4, ["car", "swan", "dance"]
RATES = {
    "latents": (0.02, 0.01),
    "rotary_tables": (0.02, 0.01),
    "rotary_positions": (0.2, 0.1),
    "sinusoidal": (0.02, 0.01),
}


def guidance_of(variable: str, **changed: object) -> MotionGuidance:
    return replace(
        MotionGuidance(
            AttentionMotionFlow(2),
            variable,
            window=0.5,
            learning_rate=RATES[variable],
            inner_steps=3,
        ),
        **changed,
    )


class Run:
    """A batch of clips on a tiny backbone, from random reference latents and prompts of their
    own.
    """

    def __init__(
        self,
        kind: str,
        guidance: MotionGuidance,
        names: list[str] = NAMES,
        size: VideoSize | None = None,
        still: bool = False,
    ) -> None:
        self.backbone, self.guidance, self.names = tiny_backbone(kind), guidance, names
        size = size or size_of(self.backbone)
        self.schedule = self.backbone.schedule(STEPS)
        seeds = [NAMES.index(name) for name in names]
        draw = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = self.backbone.spec.compression.latent_shape(size)
        self.reference_latents = torch.stack(
            [torch.randn(shape, generator=generator) for generator in draw]
        )
        self.text = torch.stack([torch.randn(16, 32, generator=generator) for generator in draw])
        self.empty, self.negative = torch.zeros(1, 16, 32), torch.ones(1, 16, 32)
        self.state = guidance.start(self.backbone, size, names, seeds)
        self.reference = self.seen()
        if still:
            self.reference = replace(self.reference, motion=torch.zeros_like(self.reference.motion))

    def seen(self) -> Reference:
        return reference_motion(
            self.backbone,
            self.guidance.signal,
            self.reference_latents,
            self.empty,
            self.names,
            noise=self.state.noise,
        )

    def step(self, state: State) -> State:
        inputs = {name: getattr(self, name) for name in ("reference", "text", "negative")}
        return guided_step(self.backbone, self.guidance, self.schedule, state, **inputs)

    def states(self) -> list[State]:
        states = [self.state]
        for _ in self.schedule:
            states.append(self.step(states[-1]))
        return states


@pytest.mark.parametrize(("kind", "variable"), PAIRS)
def test_losses_fall_in_the_window_and_positions_are_stock_after_it(
    kind: str, variable: str
) -> None:
    run = Run(kind, guidance_of(variable, inner_steps=6))
    *_, last = states = run.states()
    assert [state.step for state in states] == list(range(STEPS + 1))
    assert [len(state.history) for state in states] == [0, 1, 2, 2, 2]
    for losses in last.losses:
        assert losses.shape == (6, 3) and losses.dtype == torch.float32
        assert (losses[-1] < losses[0]).all()
    assert last.parameter is states[2].parameter  # not touched after the window
    assert last.latents.dtype == last.parameter.dtype == torch.float32


@pytest.mark.parametrize(("kind", "variable"), SOME_PAIRS)
def test_a_batch_of_three_is_three_singles(kind: str, variable: str) -> None:
    run = Run(kind, guidance_of(variable))
    together = run.states()[-1]
    for clip, name in enumerate(NAMES):
        alone = Run(kind, guidance_of(variable), [name]).states()[-1]
        pairs = (
            (alone.latents[0], together.latents[clip]),
            (alone.parameter[0], together.parameter[clip]),
            (alone.generators[0], together.generators[clip]),
            (torch.stack(alone.history)[:, 0], torch.stack(together.history)[:, clip]),
            (torch.stack(alone.losses)[..., 0], torch.stack(together.losses)[..., clip]),
        )
        for ours, theirs in pairs:
            assert_same_clip(run.backbone, ours, theirs, largest=RATES[variable][0])


@pytest.mark.parametrize("frames", [21, 25, 49])
@pytest.mark.parametrize(
    ("kind", "variable"), [("rotary", "rotary_positions"), ("sinusoidal", "sinusoidal")]
)
def test_6_7_and_13_latent_frames(kind: str, variable: str, frames: int) -> None:
    run = Run(kind, guidance_of(variable), ["car"], VideoSize(frames, 16, 24))
    state = run.step(run.state)
    assert (
        state.latents.shape[1] == {21: 6, 25: 7, 49: 13}[frames] and state.latents.isfinite().all()
    )
    assert state.losses[0][-1] < state.losses[0][0]


@pytest.mark.parametrize(("kind", "variable"), SOME_PAIRS)
def test_a_static_reference_changes_nothing(kind: str, variable: str) -> None:
    """Loss 0, gradient 0, no NaN: what comes out is the same as with a variable that was never
    updated.
    """
    still = Run(kind, guidance_of(variable), still=True).states()[-1]
    unmoved = Run(kind, guidance_of(variable, learning_rate=(0.0, 0.0))).states()[-1]
    assert torch.stack(still.losses).eq(0).all()
    torch.testing.assert_close(still.latents, unmoved.latents, rtol=0, atol=0)
    torch.testing.assert_close(still.parameter, unmoved.parameter, rtol=0, atol=0)


def test_a_static_reference_warns_with_the_clips_name(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("rotary", guidance_of("rotary_positions"))
    monkeypatch.setattr(
        AttentionMotionFlow, "is_static", lambda _, reference: torch.tensor([False, True, False])
    )
    with pytest.warns(UserWarning, match="clip 'swan' has no motion that amf sees") as caught:
        run.seen()
    assert len(caught) == 1


@pytest.mark.parametrize(("kind", "variable"), SOME_PAIRS)
def test_checkpointing_changes_nothing(kind: str, variable: str) -> None:
    plain, checkpointed = (
        Run(kind, guidance_of(variable, checkpointing=on)).states()[-1] for on in (False, True)
    )
    torch.testing.assert_close(checkpointed.latents, plain.latents, rtol=0, atol=0)
    torch.testing.assert_close(checkpointed.losses, plain.losses, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "variable"), SOME_PAIRS)
def test_a_killed_run_goes_on_bit_by_bit(kind: str, variable: str) -> None:
    run = Run(kind, guidance_of(variable))
    states = run.states()
    for before, after in pairwise(states):
        again = State.from_tensors(load(save(before.tensors())))
        resumed = run.step(again)
        assert resumed.step == after.step
        assert resumed.tensors().keys() == after.tensors().keys()
        for name, tensor in after.tensors().items():
            torch.testing.assert_close(resumed.tensors()[name], tensor, rtol=0, atol=0)


def test_a_step_leaves_its_state_as_it_was() -> None:
    run = Run("rotary", guidance_of("latents"))
    before = {name: tensor.clone() for name, tensor in run.state.tensors().items()}
    run.step(run.state)
    for name, tensor in run.state.tensors().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "variable"), SOME_PAIRS)
def test_no_weight_has_a_gradient(kind: str, variable: str) -> None:
    run = Run(kind, guidance_of(variable))
    state = run.states()[-1]
    assert all(parameter.grad is None for parameter in run.backbone.transformer.parameters())
    assert not any(
        tensor.requires_grad
        for tensor in (state.latents, state.parameter, *state.history, *state.losses)
    )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_it_works_in_either_grad_mode(mode: type) -> None:
    run = Run("rotary", guidance_of("rotary_positions"))
    with mode():
        state = run.step(run.state)
    torch.testing.assert_close(state.latents, run.step(run.state).latents, rtol=0, atol=0)
    assert not state.latents.requires_grad


def test_adam_is_fresh_at_each_step_and_its_rate_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Adam(torch.optim.Adam):
        def __init__(self, parameters: list[Tensor], lr: float) -> None:
            super().__init__(parameters, lr=lr)
            rates.append(lr)

    monkeypatch.setattr(module.torch.optim, "Adam", Adam)
    Run("rotary", guidance_of("rotary_tables")).states()
    assert rates == [0.02, 0.015]


def test_keys_and_values_are_injected_in_the_window_only(monkeypatch: pytest.MonkeyPatch) -> None:
    run, seen = Run("rotary", guidance_of("rotary_tables", injection_blocks=(0, 1))), []
    tapped = run.backbone.tapped

    def watched(*args: object, **kwargs: object) -> object:
        seen.append(sorted(kwargs.get("key_value") or ()))
        return tapped(*args, **kwargs)

    monkeypatch.setattr(run.backbone, "tapped", watched)
    run.states()
    guided = [
        [],
        [0, 1],
        [0, 1],
    ]  # the reference's keys and values; the inner updates; both denoising passes
    assert seen == guided * 2 + [[]] * 2


def test_at_the_first_step_injection_is_nothing() -> None:
    """Zero terminal SNR: the reference noised to the first timestep is the generation's own noise,
    so its keys and values are the own ones.
    """
    with_injection, without = (
        Run("sinusoidal", guidance_of("sinusoidal", injection_blocks=blocks))
        for blocks in ((0,), ())
    )
    torch.testing.assert_close(
        with_injection.step(with_injection.state).losses[0][0],
        without.step(without.state).losses[0][0],
    )


def test_a_block_whose_keys_are_injected_can_be_the_guided_one() -> None:
    run = Run("rotary", guidance_of("rotary_positions", signal=AttentionMotionFlow(0)))
    assert run.step(run.state).losses[0].isfinite().all()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"signal": AttentionMotionFlow(4)}, ModelError, "no block 4"),
        ({"injection_blocks": (9,)}, ModelError, "no block 9"),
        ({"variable": "sinusoidal"}, ModelError, "needs sinusoidal positions"),
        ({"window": 2.0}, ValueError, "window 2.0 does not fit any schedule"),
        ({"window": (0, 5)}, ValueError, "does not fit 4 steps"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        backbone = tiny_backbone("rotary")
        replace(guidance_of("rotary_positions"), **changed).check(
            backbone, backbone.schedule(STEPS)
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"variable": "depth"}, "one of latents, rotary_tables"),
        ({"inner_steps": 0}, "at least one update"),
    ],
)
def test_impossible_guidance_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MotionGuidance(AttentionMotionFlow(2), **changed)


def test_moving_references_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Run("rotary", guidance_of("latents"))


def test_a_window_may_be_anywhere() -> None:
    run = Run("rotary", guidance_of("rotary_positions", window=(1, 3)))
    assert [len(state.history) for state in run.states()] == [0, 0, 1, 2, 2]


def test_a_backbone_in_half_precision() -> None:
    run = Run("rotary", guidance_of("rotary_positions"))
    run.backbone = tiny_backbone("rotary", torch.bfloat16)
    state = run.step(run.state)
    assert state.parameter.dtype == state.latents.dtype == state.losses[0].dtype == torch.float32
    assert state.losses[0][-1].sum() < state.losses[0][0].sum()


@dataclass(frozen=True)
class Times(AttentionMotionFlow):
    """A loss that is so many times as large."""

    factor: float = 1.0

    def loss(self, *seen: Any) -> Tensor:
        return super().loss(*seen) * self.factor


def gradient_of(run: Run, dtype: torch.dtype) -> Tensor:
    """As one update by plain gradient descent takes it, in units of the factor."""
    backbone, latents, step = tiny_backbone("sinusoidal", dtype), run.state.latents, run.schedule[1]
    guidance = replace(run.guidance, inner_steps=1, update="sgd")
    variable = guidance.kind.start(backbone, latents)
    after, *_ = guide(
        backbone,
        guidance,
        variable,
        Inputs(latents),
        step,
        1e4 / guidance.signal.factor,
        Prompt(run.text, run.text),
        run.reference.motion,
    )
    return (variable.parameter - after.parameter).double()


@pytest.mark.parametrize("variable", ["latents", "sinusoidal"])
@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e6])
def test_a_float16_backbone_loses_no_gradients(variable: str, factor: float) -> None:
    """Neither small ones, of which a sixth would be zeros or of the wrong sign, nor large ones,
    which overflow with the scale that small ones need. Of a clip's gradient float16 keeps three
    digits; signs differ where it is next to 0."""
    run = Run("sinusoidal", guidance_of(variable, signal=Times(2, factor=factor)))
    exact, ours = (gradient_of(run, dtype) for dtype in (torch.float32, torch.float16))
    cosines = torch.nn.functional.cosine_similarity(exact.flatten(1), ours.flatten(1))
    assert (cosines > 0.9999).all() and (exact.sign() != ours.sign()).float().mean() < 0.002


def test_a_loss_that_is_not_finite_stays_so() -> None:
    run = Run("sinusoidal", guidance_of("latents", signal=Times(2, factor=float("nan"))))
    assert gradient_of(run, torch.float16).isnan().all()


@pytest.mark.parametrize("rates", [(float("nan"), 0.1), (0.1, float("inf")), (-0.1, 0.1)])
def test_learning_rates_that_cannot_be(rates: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="learning_rate=.* must be finite and not below 0"):
        guidance_of("latents", learning_rate=rates)
