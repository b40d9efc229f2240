"""How references are looked at: timestep, noise, words; what does not fit is refused before the
work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ditflow.core.noise import CLEAN, NoiseLevel, level_of
from ditflow.core.schedule import Step
from ditflow.models import Model, ModelError
from ditflow.motion import (
    AttentionMotionFlow,
    MotionClone,
    MotionFlow,
    MotionSignal,
    SpatialMarginalMean,
    View,
)
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.reference import (
    motion_of,
    reference_motion,
    reference_prompt,
    seen_at,
    words_of,
)
from tests.families import family_of
from tests.registry import SOME, size_of, tiny_backbone


@dataclass(frozen=True)
class Told:
    prompt: str = "a dog running"
    caption: str = "the cat dance"
    subject: str = ""
    caption_subject: str = ""


@pytest.fixture(scope="module", params=SOME)
def backbone(request: pytest.FixtureRequest) -> Model:
    return tiny_backbone(request.param)


def shown_to(
    backbone: Model,
    signal: MotionSignal[Any],
    monkeypatch: pytest.MonkeyPatch,
    timestep: int = 0,
) -> tuple[Tensor, int]:
    """What the transformer is given when a signal looks at a reference of ones, with noise of
    zeros.
    """
    seen: list[tuple[Tensor, int]] = []
    predict = backbone.predict
    monkeypatch.setattr(
        backbone,
        "predict",
        lambda latents, at, text, **rest: (
            seen.append((latents, at)) or predict(latents, at, text, **rest)
        ),
    )
    latents = torch.ones(1, *backbone.spec.compression.latent_shape(size_of(backbone)))
    reference = replace(
        reference_motion(backbone, None, latents, torch.zeros(1, 16, 32), ["x"], noise=latents)
    )
    step = Step(0, timestep, backbone.level(timestep), CLEAN, 1, 1.0)
    motion_of(backbone, signal, reference, torch.zeros_like(latents), step)
    return seen[0]


def test_noise_levels_rise_to_one_and_are_those_of_the_scheduler(backbone: Model) -> None:
    shares = [backbone.level(t).share for t in range(family_of(backbone).last + 1)]
    assert shares == sorted(shares) and shares[-1] == 1
    step, clean, noise = backbone.schedule(10)[3], torch.ones(1), torch.full((1,), 2.0)
    scheduler, timestep = backbone.scheduler, torch.tensor([step.timestep])
    wanted = (
        scheduler.add_noise(clean, noise, timestep)
        if hasattr(scheduler, "add_noise")
        else scheduler.scale_noise(clean, timestep, noise)
    )
    torch.testing.assert_close(step.level.mix(clean, noise), wanted, rtol=0, atol=3e-7)
    # a flow's level is its timestep / 1000, rounded once more; UniPC cuts timesteps to whole ones
    cut = 1e-3 if "UniPC" in backbone.spec.scheduler else 3e-7
    level = backbone.level(step.timestep)
    torch.testing.assert_close(level.mix(clean, noise), wanted, rtol=0, atol=cut)


@pytest.mark.parametrize(
    ("arguments", "view"),
    [
        ({}, View(0, 0.0)),
        ({"reference_timestep": 0}, View(0, 0.0)),
        ({"reference_timestep": 200}, View(200, None)),
        ({"reference_timestep": 200, "reference_noise": 0.0}, View(200, 0.0)),
        ({"reference_noise": 0.5}, View(None, 0.5)),
        ({"reference_timestep": "match"}, View("match", None)),
    ],
)
def test_a_signal_looks_as_published_unless_told(arguments: dict[str, Any], view: View) -> None:
    assert AttentionMotionFlow(1, **arguments).looks == view
    assert MotionClone(1).looks == View(None, 0.71)


@pytest.mark.parametrize(
    ("arguments", "told", "noisy"),
    [
        ({}, 0, False),
        ({"reference_timestep": 200}, 200, True),
        ({"reference_timestep": 200, "reference_noise": 0.0}, 200, False),
        ({"reference_timestep": "match"}, 700, True),
    ],
)
def test_the_transformer_is_told_the_timestep_and_given_its_noise(
    backbone: Model,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    told: int,
    noisy: bool,
) -> None:
    latents, timestep = shown_to(
        backbone, AttentionMotionFlow(1, **arguments), monkeypatch, timestep=700
    )
    assert timestep == told
    kept = torch.tensor(backbone.level(told).signal if noisy else 1.0)
    torch.testing.assert_close(latents, kept.expand_as(latents))


def test_a_share_of_noise_finds_its_timestep(
    backbone: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents, timestep = shown_to(backbone, MotionClone(1), monkeypatch)
    signal = level_of(0.71, backbone.spec.prediction).signal
    torch.testing.assert_close(latents, torch.full_like(latents, signal))
    torch.testing.assert_close(
        torch.tensor(backbone.level(timestep).share), torch.tensor(0.71), rtol=0, atol=2e-3
    )  # the scheduler's steps there
    if "snr_shift_scale" in backbone.scheduler.config:  # as for the published backbones
        assert timestep == {1.0: 465, 3.0: 310}[backbone.scheduler.config.snr_shift_scale]
    else:
        assert timestep == pytest.approx(1000 * 0.71**0.5 / (0.71**0.5 + 0.29**0.5))


def test_a_timestep_that_the_scheduler_has_not(backbone: Model) -> None:
    last = family_of(backbone).last
    guidance = MotionGuidance(SpatialMarginalMean(1, reference_timestep=last + 1), "latents")
    said = f"no timestep {last + 1} to look at the reference: those of .* are 0 to {last}"
    with pytest.raises(ModelError, match=said):
        guidance.check(backbone, backbone.schedule(4))
    assert seen_at(backbone, View(last, None)) == (last, NoiseLevel(0.0, 1.0))


def test_a_signal_that_matches_looks_anew_at_each_step(backbone: Model) -> None:
    signal, names = SpatialMarginalMean(1, reference_timestep="match"), ["x"]
    state = MotionGuidance(signal, "latents").start(backbone, size_of(backbone), names, [0])
    reference = reference_motion(
        backbone,
        signal,
        torch.randn_like(state.noise),
        torch.zeros(1, 16, 32),
        names,
        noise=state.noise,
    )
    assert reference.motion is None
    schedule = backbone.schedule(4)
    early, late = (
        motion_of(backbone, signal, reference, state.noise, step)
        for step in (schedule[0], schedule[1])
    )
    assert not torch.equal(early, late)
    torch.testing.assert_close(
        motion_of(backbone, signal, replace(reference, motion=early), state.noise, schedule[1]),
        early,
        rtol=0,
        atol=0,
    )


def test_words_are_found_by_name_and_by_place(backbone: Model) -> None:
    dance = backbone.words(["a dog dance", "a dog dance", "A DOG, dogs"], ["dog", -1, "dog"])
    assert dance.shape == (3, backbone.spec.text_tokens) and dance.dtype == torch.int64
    assert dance[0].tolist()[:4] == [1, 2, 1, 0] and dance[1].tolist()[:4] == [1, 1, 2, 0]
    assert dance[2].eq(2).sum() >= 1 and dance[2][dance[2] > 0][-1] == 1, "dogs are another word"
    assert backbone.words(["zebra cat"], ["zebra"])[0].eq(2).sum() > 1, "a word of several pieces"
    assert backbone.words(["a dog dance"], ["dog dance"])[0].tolist()[:4] == [1, 2, 2, 0]


@pytest.mark.parametrize(
    ("prompt", "subject", "sentence"),
    [
        ("a dog running", "cat", "prompt 'a dog running' does not have the subject word 'cat'"),
        ("a dog running", "dog cat", "the subject word 'cat'"),
        ("a dog", 2, "prompt 'a dog' has no word 2, counted from 0: it has 2"),
        ("", -1, "prompt '' has no word -1"),
        ("a dog", " ", "does not have the subject word"),
        ("running " * 512 + "cat", "cat", "'cat' of prompt .* lies beyond the (16|512) tokens"),
    ],
)
def test_a_prompt_without_its_subject(
    backbone: Model, prompt: str, subject: str | int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        backbone.words([prompt], [subject])


def test_words_are_read_by_signals_that_ask(backbone: Model) -> None:
    assert (
        words_of(backbone, None, [Told()]) is None
        and words_of(backbone, AttentionMotionFlow(1), [Told()]) is None
    )
    clips = [Told(), Told(subject="running"), Told(subject="running", caption_subject="dance")]
    with pytest.raises(
        ValueError, match="prompt 'the cat dance' does not have the subject word 'running'"
    ):
        words_of(backbone, MotionFlow(1), clips)
    words = words_of(backbone, MotionFlow(1, caption_subject="cat"), clips)
    assert [row.index(2) for row in words.prompt.tolist()] == [1, 2, 2]
    assert [row.index(2) for row in words.caption.tolist()] == [1, 1, 2]


def test_a_caption_is_asked_for_where_it_is_read() -> None:
    assert reference_prompt(AttentionMotionFlow(1), Told()) == reference_prompt(None, Told()) == ""
    assert reference_prompt(MotionFlow(1), Told()) == "the cat dance"
    with pytest.raises(
        ValueError,
        match="'motionflow' looks at a clip together with its caption, and none is given",
    ):
        reference_prompt(MotionFlow(1), Told(caption=""))
