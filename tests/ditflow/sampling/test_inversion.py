"""The steps run backwards: exact on straight lines, else off by what a step is long."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditflow.core.noise import CLEAN, OUTPUT
from ditflow.core.schedule import DenoisingSchedule
from ditflow.models.base import Model
from ditflow.motion import MotionFlow
from ditflow.sampling import optimise
from ditflow.sampling.control import Inputs, Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.inversion import inverted
from ditflow.sampling.reference import Reference, reference_motion
from tests.registry import PROMPTS, SOME, picture_for, size_of, tiny_backbone


@pytest.fixture(scope="module", params=SOME)
def backbone(request: pytest.FixtureRequest) -> Model:
    return tiny_backbone(request.param)


def latents_of(backbone: Model, seed: int, batch: int = 2) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    shape = backbone.spec.compression.latent_shape(size_of(backbone))
    return torch.randn(batch, *shape, generator=draw)


def there_and_back(backbone: Model, schedule: DenoisingSchedule, clean: Tensor) -> Tensor:
    """Clean latents inverted and sampled again, without guidance, by the deterministic step."""
    text, picture = backbone.embed(PROMPTS), picture_for(backbone, clean)
    *_, (_, latents) = inverted(backbone, schedule, clean, text, picture)
    for step in schedule:
        output = backbone.predict(latents, step.timestep, text, picture=picture)
        assert output is not None
        latents, _ = Model.advance(backbone, output, step, latents, None, [])
    return latents


def test_along_straight_lines_it_is_exact(backbone: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says everywhere which noise a clip comes from finds that noise, and the clip."""
    clean, noise, schedule = latents_of(backbone, 0), latents_of(backbone, 1), backbone.schedule(4)
    levels = {0.0: CLEAN} | {step.timestep: step.level for step in schedule}

    def straight(latents: Tensor, timestep: float, *_: object, **__: object) -> Tensor:
        u, w = OUTPUT[backbone.spec.prediction](levels[timestep])
        return u * clean + w * noise

    monkeypatch.setattr(backbone, "predict", straight)
    path = list(inverted(backbone, schedule, clean, backbone.embed(PROMPTS)))
    assert [step.index for step, _ in path] == [3, 2, 1, 0]
    for step, latents in path:  # sums of two numbers of some units, a few times rounded
        torch.testing.assert_close(latents, step.level.mix(clean, noise), rtol=0, atol=1e-5)
    back = there_and_back(backbone, schedule, clean)
    torch.testing.assert_close(back, clean, rtol=0, atol=1e-4)


@torch.no_grad()
def test_half_as_long_steps_make_half_the_error(backbone: Model) -> None:
    """Euler's method is of first order. Terms of the second order count too at these steps, by as
    much as a step is of the whole way times the curvature: they may move the half by a third.
    """
    clean = latents_of(backbone, 0)
    coarse, fine = (
        (there_and_back(backbone, backbone.schedule(steps), clean) - clean).norm() / clean.norm()
        for steps in (16, 32)
    )
    assert 1 / 3 < fine / coarse < 2 / 3
    assert fine < 0.25, "and it is the clip"


def test_a_signal_sees_the_clip_as_it_is_at_each_guided_step(
    backbone: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its caption, and whatever the noise of the generation is."""
    signal = MotionFlow(1, caption_subject=-1, reference_timestep="inverted")
    guidance, schedule = MotionGuidance(signal, "latents", 0.5), backbone.schedule(4)
    clean, caption = latents_of(backbone, 0), backbone.embed(PROMPTS)
    state = guidance.start(backbone, size_of(backbone), ["a", "b"], [0, 1])
    reference = reference_motion(
        backbone, signal, clean, caption, ["a", "b"], noise=state.noise, words=None
    )
    assert reference.motion is None, "nothing is seen before the first step"
    asked: list[Reference] = []
    monkeypatch.setattr(optimise, "motion_of", lambda *given: asked.append(given[2]))
    monkeypatch.setattr(
        optimise, "guide", lambda *given: (given[2], torch.zeros(1, 2, device=clean.device), None)
    )
    control = optimise.motion_control(backbone, guidance, schedule, reference)
    wanted = {step.index: latents for step, latents in inverted(backbone, schedule, clean, caption)}
    prompt = Prompt(caption, caption)
    for step in schedule:
        state, _ = control.before(backbone, step, prompt, state, Inputs(state.latents))
    assert len(asked) == 2
    for given in asked:
        assert given.inverted.keys() == {0, 1}, "what no guided step sees is not kept"
        assert all(torch.equal(given.inverted[index], wanted[index]) for index in (0, 1))

    def fails(*_: object) -> None:
        pytest.fail("inverted again")

    monkeypatch.setattr(optimise, "run_back", fails)
    optimise.motion_control(backbone, guidance, schedule, reference, begins=2)
