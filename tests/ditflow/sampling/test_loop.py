from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditflow.models import Model, load_backbone
from ditflow.sampling.control import Prompt
from ditflow.sampling.loop import denoising_step, sample
from ditflow.sampling.state import State, clip_generator, initial_noise
from tests.families import assert_same_clip
from tests.registry import SOME, picture_for, size_of, tiny_backbone


@pytest.fixture(params=SOME)
def backbone(request: pytest.FixtureRequest) -> Model:
    return tiny_backbone(request.param)


def noise_of(backbone: Model, names: list[str]) -> tuple[Tensor, list[torch.Generator]]:
    generators = [clip_generator(name, 0) for name in names]
    shape = backbone.spec.compression.latent_shape(size_of(backbone))
    return initial_noise(shape, generators), generators


def test_a_generator_depends_on_name_and_seed() -> None:
    draws = {
        (name, seed): tuple(torch.randn(3, generator=clip_generator(name, seed)).tolist())
        for name in ("a", "b")
        for seed in (0, 1)
    }
    assert len(set(draws.values())) == 4
    assert torch.randn(3, generator=clip_generator("a", 1)).tolist() == list(draws["a", 1])


def test_noise_does_not_depend_on_the_batch() -> None:
    together = initial_noise((3, 4), [clip_generator(name, 0) for name in "abc"])
    assert together.shape == (3, 3, 4) and together.dtype == torch.float32
    torch.testing.assert_close(
        together[1:2], initial_noise((3, 4), [clip_generator("b", 0)]), rtol=0, atol=0
    )


def test_a_clip_does_not_depend_on_its_batch(backbone: Model) -> None:
    names, schedule = ["a", "b", "c"], backbone.schedule(3)
    text, negative = torch.randn(3, 16, 32), torch.randn(1, 16, 32)
    noise, generators = noise_of(backbone, names)
    prompt, start = Prompt(text, negative), State.begin(noise, generators)
    together = sample(backbone, schedule, prompt, start).latents
    for clip, name in enumerate(names):
        noise, generators = noise_of(backbone, [name])
        prompt, start = Prompt(text[clip : clip + 1], negative), State.begin(noise, generators)
        alone = sample(backbone, schedule, prompt, start).latents
        assert_same_clip(backbone, alone, together[clip : clip + 1])


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_guidance_is_a_line_through_both_predictions(backbone: Model, scale: float) -> None:
    (noise, generators), (step, *_) = (
        noise_of(backbone, ["a"]),
        backbone.schedule(4, scale, "constant"),
    )
    text, negative = torch.randn(2, 1, 16, 32)
    with torch.no_grad():
        conditional, unconditional = (
            backbone.predict(noise, step.timestep, prompt) for prompt in (text, negative)
        )
    assert conditional is not None and unconditional is not None
    states = [generator.get_state() for generator in generators]
    guided = unconditional + scale * (conditional - unconditional)
    guided = conditional if scale == 1 else guided  # in a single pass
    expected = backbone.advance(guided, step, noise, None, generators)
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)
    begun = State.begin(noise, generators)
    after = denoising_step(backbone, step, Prompt(text, negative), begun)
    torch.testing.assert_close((after.latents, after.memory), expected, rtol=0, atol=0)


def test_latents_stay_float32(backbone: Model) -> None:
    low = load_backbone(backbone.spec.name, dtype=torch.bfloat16)
    noise, generators = noise_of(low, ["a"])
    prompt = Prompt(torch.randn(1, 16, 32), torch.randn(1, 16, 32), picture_for(low, noise))
    after = denoising_step(low, low.schedule(4)[0], prompt, State.begin(noise, generators))
    assert after.latents.dtype == after.previous_x0.dtype == torch.float32


def test_who_is_told_the_steps_may_end_it_and_nothing_stays() -> None:
    """What is left of the steps, from where the state has come to."""
    model, told = tiny_backbone("rotary"), list[tuple[int, int]]()
    schedule, prompt = model.schedule(4), Prompt(torch.randn(1, 16, 32), torch.randn(1, 16, 32))

    def begun() -> State:
        return State.begin(*noise_of(model, ["a"]))

    whole = sample(model, schedule, prompt, begun())
    first = denoising_step(model, schedule[0], prompt, begun())
    sample(model, schedule, prompt, first, on_step=lambda done, of: told.append((done, of)))
    assert told == [(2, 4), (3, 4), (4, 4)]

    def end_at_two(done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(model, schedule, prompt, begun(), on_step=end_at_two)
    again = sample(model, schedule, prompt, begun())
    torch.testing.assert_close(again.latents, whole.latents, rtol=0, atol=0)
