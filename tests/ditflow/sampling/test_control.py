"""What acts on a generation: nothing, one control, or several, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from ditflow.core.noise import CLEAN, NoiseLevel
from ditflow.core.schedule import GuidanceWindow, Step
from ditflow.models import Model
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.control import NOTHING, Control, Controls, GuidedSteps, Inputs, Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.inject import Inject
from ditflow.sampling.loop import denoising_step, sample
from ditflow.sampling.optimise import Optimise
from ditflow.sampling.placement import Placement
from ditflow.sampling.reference import reference_motion
from ditflow.sampling.state import State, start
from ditflow.sampling.variables import VARIABLES
from tests.registry import SOME, SOME_PAIRS, size_of, tiny_backbone

STEPS, WINDOW = 4, GuidanceWindow(0, 2)
PROMPT = Prompt(*torch.randn(2, 1, 16, 32, generator=torch.Generator().manual_seed(1)))


def begun(model: Model) -> State:
    return start(model, size_of(model), ["x"], [0])


def generated(model: Model, control: Control = NOTHING) -> Tensor:
    return sample(model, model.schedule(STEPS), PROMPT, begun(model), control).latents


def parameters_of(model: Model, variable: str) -> Tensor:
    """As an entry has them: one for each guided step, each its own."""
    own = VARIABLES[variable].initial(model, begun(model).noise)
    draw = torch.Generator().manual_seed(2)
    return own + 0.3 * torch.randn(len(WINDOW), *own.shape[1:], generator=draw)


def injected(model: Model, variable: str, strength: float = 1.0) -> Inject:
    guided = GuidedSteps(model.schedule(STEPS), WINDOW)
    return Inject(
        VARIABLES[variable], parameters_of(model, variable), guided, Placement("both", strength)
    )


def optimised(model: Model) -> Optimise:
    guidance = MotionGuidance(AttentionMotionFlow(2), "latents", 0.5, (0.02, 0.02), inner_steps=2)
    noise = begun(model).noise
    reference = reference_motion(
        model, guidance.signal, noise.flip(3), torch.zeros(1, 16, 32), ["x"], noise=noise
    )
    return Optimise(guidance, reference, GuidedSteps(model.schedule(STEPS), WINDOW))


@dataclass(frozen=True)
class Noted(Control):
    """Notes its turns, and adds to the latents before and after each step."""

    name: str
    notes: list[tuple[str, str, int]]
    added: float = 0.0
    times: float = 1.0

    def before(self, model: Any, step: Any, prompt: Any, state: State, inputs: Inputs) -> Any:
        self.notes.append((self.name, "before", step.index))
        return state, replace(inputs, latents=inputs.latents * self.times + self.added)

    def after(self, model: Any, step: Any, state: State) -> State:
        self.notes.append((self.name, "after", step.index))
        return replace(state, latents=state.latents * self.times + self.added)


@pytest.mark.parametrize("control", [Controls(()), Controls((NOTHING, NOTHING)), Noted("a", [])])
@pytest.mark.parametrize("kind", SOME)
def test_nothing_changes_nothing(kind: str, control: Control) -> None:
    model = tiny_backbone(kind)
    torch.testing.assert_close(generated(model, control), generated(model), rtol=0, atol=0)


def test_each_control_sees_what_the_one_before_it_has_made() -> None:
    model, notes = tiny_backbone("rotary"), []
    step, state, inputs = model.schedule(STEPS)[1], begun(model), Inputs(torch.ones(1))
    both = Controls((Noted("a", notes, added=1.0), Noted("b", notes, times=3.0)))
    assert both.before(model, step, PROMPT, state, inputs)[1].latents == 6  # (1 + 1) 3, not 1 3 + 1
    after = both.after(model, step, replace(state, latents=torch.ones(1)))
    assert after.latents == 6
    assert notes == [(name, when, 1) for when in ("before", "after") for name in "ab"]


def test_what_a_control_does_after_a_step_the_next_step_starts_from() -> None:
    model, step = tiny_backbone("rotary"), tiny_backbone("rotary").schedule(STEPS)[0]
    plain = denoising_step(model, step, PROMPT, begun(model))

    class Doubled(Control):
        def after(self, model: Model, step: Any, state: State) -> State:
            return replace(state, latents=2 * state.latents)

    doubled = denoising_step(model, step, PROMPT, begun(model), Doubled())
    torch.testing.assert_close(doubled.latents, 2 * plain.latents, rtol=0, atol=0)
    assert doubled.step == 1


@pytest.mark.parametrize(("kind", "name"), SOME_PAIRS)
def test_full_strength_is_the_entry(kind: str, name: str) -> None:
    """Each step of the window is denoised with the entry's own parameter, the others with none."""
    model = tiny_backbone(kind)
    schedule, prompt, state = model.schedule(STEPS), PROMPT, begun(model)
    control, parameters = injected(model, name), parameters_of(model, name)
    inputs = Inputs(state.latents)
    for step in schedule:
        given = control.before(model, step, prompt, state, inputs)[1]
        if step.index >= WINDOW.stop:
            assert given is inputs
            continue
        variable = VARIABLES[name].at(model, parameters[step.index, None])
        torch.testing.assert_close(given.latents, variable.latents(inputs.latents), rtol=0, atol=0)
        torch.testing.assert_close(given.positions.conditional, variable.position, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "name"), SOME_PAIRS)
def test_strength_goes_from_plain_to_the_entry(kind: str, name: str) -> None:
    """No strength gives the model's own positions, bit by bit; in between lies in between."""
    model = tiny_backbone(kind)
    plain, half, full = (
        generated(model),
        *(generated(model, injected(model, name, strength)) for strength in (0.5, 1.0)),
    )
    none = generated(model, injected(model, name, 0.0))
    torch.testing.assert_close(none, plain, rtol=0, atol=0)
    assert 0 < (half - plain).norm() < (full - plain).norm()
    step, state = model.schedule(STEPS)[0], begun(model)
    own = VARIABLES[name].initial(model, state.latents)
    middle = VARIABLES[name].at(model, own + 0.5 * (parameters_of(model, name)[:1] - own))
    given = injected(model, name, 0.5).before(model, step, PROMPT, state, Inputs(state.latents))[1]
    torch.testing.assert_close(given.latents, middle.latents(state.latents), rtol=0, atol=0)
    torch.testing.assert_close(given.positions.conditional, middle.position, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["rotary", "wan"])
def test_injected_latents_are_what_is_optimised(kind: str) -> None:
    model = tiny_backbone(kind)
    inject, optimise = injected(model, "latents"), optimised(model)
    state = replace(begun(model), parameter=begun(model).noise)
    step, inputs = model.schedule(STEPS)[0], Inputs(state.latents)
    together = Controls((inject, optimise)).before(model, step, PROMPT, state, inputs)
    between = inject.before(model, step, PROMPT, state, inputs)
    one_by_one = optimise.before(model, step, PROMPT, *between)
    torch.testing.assert_close(together[1].latents, one_by_one[1].latents, rtol=0, atol=0)
    moved = (together[1].latents - parameters_of(model, "latents")[:1]).abs()
    assert 0 < moved.max() < 0.05  # two updates of 0.02 each from what was injected
    assert together[0].losses[0].shape == (2, 1)


@pytest.mark.parametrize("kind", ["rotary", "wan"])
def test_a_generation_goes_on_from_the_middle_bit_by_bit(kind: str) -> None:
    model = tiny_backbone(kind)
    control = Controls((injected(model, "latents", 0.5), optimised(model)))
    schedule, state = model.schedule(STEPS), replace(begun(model), parameter=begun(model).noise)
    whole = sample(model, schedule, PROMPT, state, control)
    state = denoising_step(model, schedule[0], PROMPT, state, control)
    kept = State.from_tensors(load(save(state.tensors())))
    resumed = sample(model, schedule, PROMPT, kept, control)
    assert resumed.tensors().keys() == whole.tensors().keys()
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(resumed.tensors()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(strength: float) -> None:
    guided = GuidedSteps(tiny_backbone("rotary").schedule(2), GuidanceWindow(0, 1))
    with pytest.raises(ValueError, match="strength is .*, but it must be a finite number"):
        Inject(VARIABLES["latents"], torch.zeros(1, 1), guided, Placement("both", strength))


def shifted(steps: int, shift: float) -> list[NoiseLevel]:
    """The levels of a flow's schedule whose noise is shifted up, as those of large models are."""
    shares = [1 - index / steps for index in range(steps)]
    sigmas = [shift * share / (1 + (shift - 1) * share) for share in shares]
    return [NoiseLevel(1 - sigma, sigma) for sigma in sigmas]


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 8.0])
@pytest.mark.parametrize("steps", [4, 12, 50])
def test_guided_steps_are_found_by_their_noise_alone(steps: int, shift: float) -> None:
    levels = shifted(steps, shift)
    schedule = [Step(i, 3.0, level, CLEAN, steps, 1.0) for i, level in enumerate(levels)]
    for first, stop in combinations(range(steps + 1), 2):
        before, after = levels[first - 1] if first else None, [*levels, CLEAN][stop]
        chosen = levels[first:stop]
        guided = GuidedSteps.of_levels([7.0] * len(chosen), chosen, before, after)
        found = [guided.index(step) for step in schedule]
        wanted = [i - first if first <= i < stop else None for i in range(steps)]
        assert found == wanted, (first, stop)
