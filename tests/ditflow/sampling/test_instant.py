"""A motion field in a generation: the tokens follow it, and a share of the noise."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.synthetic import World
from ditflow.bank import EntryError, FieldEntry
from ditflow.compatibility import Injected, Injection, check_entry, injected
from ditflow.core.schedule import GuidanceWindow
from ditflow.core.sizes import VideoSize
from ditflow.extraction import extract_motion_field
from ditflow.fields.field import FieldSource, MotionField, cell_places
from ditflow.fields.noise import on_latents
from ditflow.fields.operations import anchored, mirrored
from ditflow.fields.positions import displaced, on_tokens
from ditflow.models import Model
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.control import NOTHING, Control, Inputs, Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.inject import CarriedNoise, Follow, Instant
from ditflow.sampling.loop import sample
from ditflow.sampling.placement import Placement
from ditflow.sampling.state import State, start
from ditflow.sampling.variables import VARIABLES
from ditflow.transfer import inject_motion, transfer_motion
from ditflow.video import Clip
from tests.registry import (
    BACKBONES,
    PICTURED,
    SIZE,
    SOME,
    SOME_PAIRS,
    grid_of,
    image_of,
    size_of,
    tiny_backbone,
)

STEPS = 4
PROMPT = Prompt(*torch.randn(2, 1, 16, 32, generator=torch.Generator().manual_seed(1)))


def pan(x: float = 0.25, frames: int = SIZE.frames) -> MotionField:
    """Content that moves to the left by a share x of the frame over the video."""
    times = torch.arange(0, frames, 2).float()
    moved = torch.zeros(len(times), 2, 4, 6)
    moved[:, 0] = (x * times / (frames - 1))[:, None, None]
    sure, aspect = torch.ones(len(times), 4, 6), SIZE.width / SIZE.height
    return MotionField(moved, sure, tuple(times.tolist()), frames, aspect, FieldSource("test", "p"))


def zoomed(frames: int = SIZE.frames) -> MotionField:
    """Content that grows about the middle of the frame, by a half over the video."""
    times = torch.arange(0, frames, 2).float()
    shrunk = 1 / (1 + 0.5 * times / (frames - 1)) - 1
    moved = shrunk[:, None, None, None] * (cell_places(16, 24) - 0.5)
    sure, aspect = torch.ones(len(times), 16, 24), SIZE.width / SIZE.height
    return MotionField(moved, sure, tuple(times.tolist()), frames, aspect, FieldSource("test", "z"))


def begun(model: Model, seed: int = 0) -> State:
    return start(model, size_of(model), ["x"], [seed])


def generated(model: Model, control: Control = NOTHING, scale: float = 3.0) -> Tensor:
    return sample(model, model.schedule(STEPS, scale), PROMPT, begun(model), control).latents


@pytest.mark.parametrize("kind", SOME)
def test_no_strength_and_no_share_give_the_plain_video_bit_by_bit(kind: str) -> None:
    model = tiny_backbone(kind)
    for instant in (Instant(1.0, 0.5, Placement(strength=0.0)), Instant(0.0, 0.0)):
        none = generated(model, instant.control(model, size_of(model), [pan()]))
        torch.testing.assert_close(none, generated(model), rtol=0, atol=0)


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_field_without_motion_leaves_the_model_its_own_places(kind: str) -> None:
    model = tiny_backbone(kind)
    still = Instant(1.0, 0.0).control(model, size_of(model), [pan(0.0)])
    torch.testing.assert_close(generated(model, still), generated(model), rtol=0, atol=0)
    moved = Instant(1.0, 0.0).control(model, size_of(model), [pan()])
    assert not torch.equal(generated(model, moved), generated(model))


@pytest.mark.parametrize("kind", SOME)
def test_tokens_that_show_the_same_content_have_the_same_place(kind: str) -> None:
    """A pan by one token a latent frame: the places of neighbours in neighbouring frames agree."""
    model = tiny_backbone(kind)
    grid = grid_of(model)
    moved = torch.zeros(grid.frames, 2, grid.height, grid.width)
    moved[:, 0] = torch.arange(grid.frames)[:, None, None] / grid.width
    places = displaced(model.positions(grid), moved).view(grid.frames, grid.height, grid.width, 3)
    torch.testing.assert_close(places[1:, :, :-1, 1:], places[:-1, :, 1:, 1:])
    own = model.positions(grid).view_as(places)
    torch.testing.assert_close(places[..., 0], own[..., 0], rtol=0, atol=0)  # time stays


def test_tokens_follow_in_the_window_alone() -> None:
    model, state = tiny_backbone("rotary"), begun(tiny_backbone("rotary"))
    follow = Follow(on_tokens([pan()], model.spec.compression, SIZE), 0.5)
    for step in model.schedule(STEPS):
        inputs = Inputs(state.latents)
        _, given = follow.before(model, step, PROMPT, state, inputs)
        assert (given is inputs) == (step.index >= 2)
        assert given.positions.unconditional is None


@pytest.mark.parametrize("steps", [4, 8])
def test_tokens_follow_down_to_a_level_of_noise_on_any_schedule(steps: int) -> None:
    model, window = tiny_backbone("wan"), "noise:0.75"
    moved, state = on_tokens([pan()], model.spec.compression, SIZE), begun(model)
    schedule = model.schedule(steps)
    guided = GuidanceWindow.of(window, schedule)
    assert 0 < len(guided) < steps
    for step in schedule:
        inputs = Inputs(state.latents)
        _, given = Follow(moved, window).before(model, step, PROMPT, state, inputs)
        assert (given is inputs) != guided.covers(step)


@pytest.mark.parametrize("kind", SOME)
def test_noise_is_carried_before_the_first_step_alone(kind: str) -> None:
    model = tiny_backbone(kind)
    moved = on_latents([pan()], model.spec.compression, size_of(model))
    state, schedule = begun(model), model.schedule(STEPS)
    carried, inputs = CarriedNoise(moved, 0.5).before(
        model, schedule[0], PROMPT, state, Inputs(state.latents)
    )
    assert not torch.equal(carried.noise, state.noise)
    assert torch.equal(carried.noise, carried.latents) and torch.equal(
        carried.noise, inputs.latents
    )
    torch.testing.assert_close(carried.noise[:, 0], state.noise[:, 0], rtol=0, atol=0)
    later = CarriedNoise(moved, 0.5).before(model, schedule[1], PROMPT, carried, inputs)
    assert later == (carried, inputs)


@pytest.mark.parametrize("kind", SOME)
def test_a_clip_does_not_depend_on_its_batch(kind: str) -> None:
    """Noise and positions of one clip are the same beside another field."""
    model = tiny_backbone(kind)
    compression, size = model.spec.compression, size_of(model)
    for on in (on_latents, on_tokens):
        both = on([pan(), pan(-0.5)], compression, size)
        torch.testing.assert_close(both[:1], on([pan()], compression, size), rtol=0, atol=0)


@pytest.mark.parametrize("kind", SOME)
def test_inject_motion_takes_a_field_and_its_entry(kind: str) -> None:
    model, field = tiny_backbone(kind), pan()
    entry, size = entry_of(field), size_of(model)
    options = {"seed": 3, "steps": STEPS, "size": size, "image": image_of(kind)}
    video = inject_motion(model, field, "a dog", **options)
    assert video.shape == (size.frames, 3, size.height, size.width)
    halved = replace(field, displacement=field.displacement.half().float())
    torch.testing.assert_close(
        inject_motion(model, entry, "a dog", **options),
        inject_motion(model, halved, "a dog", **options),
        rtol=0,
        atol=0,
    )
    for how in (Injection(strength=0.5), Injection(noise_share=0.0)):
        assert not torch.equal(inject_motion(model, field, "a dog", how=how, **options), video)
    check_entry(model, entry)
    with pytest.raises(ValueError, match=r"window \(0, 9\) does not fit 8 steps"):
        check_entry(model, entry, Injection(window=(0, 9)), 8)


@pytest.mark.parametrize("kind", [kind for kind in PICTURED if kind in SOME])
def test_a_picture_is_the_first_frame_of_a_field(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field that is told from another frame moves what the picture shows, and so is told from the
    first frame again: there its tokens are at the model's own places. What two inversions leave of
    the first frame is a rounding between cells. Without a picture a field is taken as it is told.
    """
    model, there, seen = tiny_backbone(kind), anchored(zoomed(), -1), list[MotionField]()

    def noted(backbone: Model, motion: MotionField, *rest: Any) -> Injected:
        seen.append(motion)
        return injected(backbone, motion, *rest)

    monkeypatch.setattr("ditflow.compatibility.drafts.injected", noted)
    options = {"seed": 3, "steps": 2, "size": size_of(model)}
    for motion in (there, entry_of(there), zoomed()):
        inject_motion(model, motion, "a dog", image=image_of(kind), **options)
    back, kept, own = seen
    assert torch.equal(back.displacement, anchored(there, 0).displacement)
    assert torch.equal(kept.displacement, anchored(entry_of(there).field, 0).displacement)
    assert torch.equal(own.displacement, zoomed().displacement)
    told = [back, there, zoomed()]
    first = on_tokens(told, model.spec.compression, size_of(model))[:, 0]
    off = (first - first[2]).abs().flatten(1).amax(1)
    assert off[0] < 2e-3 < 2e-2 < off[1]
    alone = model.spec.compression.token_times(size_of(model).frames)[0] == 0
    assert first[2].any() != alone  # a token that spans more than the first frame has moved on
    torch.testing.assert_close(back.displacement, zoomed().displacement, rtol=0, atol=2e-3)


def test_a_field_without_a_picture_is_taken_as_it_is_told() -> None:
    model, there = tiny_backbone("wan22-5b"), anchored(zoomed(), -1)
    inject = partial(inject_motion, model, prompt="a dog", seed=3, steps=STEPS, size=SIZE)
    assert not torch.equal(inject(motion=there), inject(motion=anchored(there, 0)))


def test_a_field_fits_any_size() -> None:
    model = tiny_backbone("rotary")
    size = VideoSize(17, 48, 32)
    video = inject_motion(model, pan(), "a dog", steps=2, size=size)
    assert video.shape == (17, 3, 48, 32)


def test_a_number_of_frames_that_would_be_cut_is_refused() -> None:
    model = tiny_backbone("wan")
    with pytest.raises(ValueError, match="24 frames would come back with 21: use 25 or 21"):
        inject_motion(model, pan(), "a dog", steps=2, size=VideoSize(24, 32, 48))


def test_what_a_field_lacks_is_said() -> None:
    model = tiny_backbone("rotary")
    with pytest.raises(EntryError, match="a motion field holds no reference latents"):
        inject_motion(model, pan(), "a dog", how=Injection(injection_blocks=[0]))
    with pytest.raises(ValueError, match="noise_share is 1.5, but it is a share from 0 to 1"):
        inject_motion(model, pan(), "a dog", how=Injection(noise_share=1.5))
    with pytest.raises(ValueError, match=r"window \(0, 3\) does not fit 2 steps"):
        inject_motion(model, pan(), "a dog", steps=2, how=Injection(window=(0, 3)))
    model.spec = replace(model.spec, position="learned")
    with pytest.raises(EntryError, match="those of .* are learned. Use a backbone with rotary or"):
        inject_motion(model, pan(), "a dog")


def test_latents_cannot_begin_at_places() -> None:
    with pytest.raises(ValueError, match="latents have no places: .* by noise_share"):
        MotionGuidance(AttentionMotionFlow(2), "latents", begin="field")


def test_what_is_no_motion_is_refused() -> None:
    with pytest.raises(ValueError, match="inject_motion was given a Tensor; it takes a bank entry"):
        inject_motion(tiny_backbone("rotary"), torch.zeros(1), "a dog")


def entry_of(field: MotionField) -> FieldEntry:
    return FieldEntry.of(
        field,
        ditflow="0",
        clip_sha256="0" * 64,
        prompt="",
        negative_prompt="",
        seed=0,
        size=(SIZE.frames, SIZE.height, SIZE.width),
        start=0,
        stride=1,
        seconds=0.0,
        date="2026-01-01T00:00:00+00:00",
    )


@pytest.mark.parametrize(("kind", "name"), SOME_PAIRS)
def test_optimisation_begins_where_the_field_puts_tokens(kind: str, name: str) -> None:
    model, begin = tiny_backbone(kind), "own" if name == "latents" else "field"
    guidance = MotionGuidance(AttentionMotionFlow(2), name, begin=begin, noise_share=0.5)
    size = size_of(model)
    state = guidance.start(model, size, ["x"], [0], [pan()])
    grid, compression = grid_of(model), model.spec.compression
    moved = on_tokens([pan()], compression, size)
    places = displaced(model.positions(grid), moved)
    wanted = VARIABLES[name].initial(model, state.noise, places)
    torch.testing.assert_close(state.parameter, wanted, rtol=0, atol=0)
    plain = begun(model)
    carried = CarriedNoise(on_latents([pan()], compression, size), 0.5)
    noise = carried.before(model, model.schedule(2)[0], PROMPT, plain, Inputs(plain.noise))[0].noise
    torch.testing.assert_close(state.noise, noise, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["rotary_positions", "rotary_tables"])
def test_rates_of_nothing_leave_the_instant_motion(name: str) -> None:
    """Optimising from the field without a step is injecting the field, but for its keys."""
    frames = World(SIZE).clip(0, "pan").frames
    model, clip = tiny_backbone("rotary"), Clip(frames, 8.0, Path("car.mp4"), "0" * 64)
    guidance = MotionGuidance(
        AttentionMotionFlow(2),
        name,
        window=0.5,
        learning_rate=(0.0, 0.0),
        inner_steps=1,
        injection_blocks=(),
        passes="conditional",
        begin="field",
        noise_share=0.5,
    )
    options = {"seed": 3, "steps": STEPS, "guidance_scale": 1.5}
    made = transfer_motion(model, clip, "a dog", motion_guidance=guidance, **options)
    metadata = made.entry.metadata
    assert (metadata.passes, metadata.begin, metadata.noise_share) == ("conditional", "field", 0.5)
    field = replace(extract_motion_field(clip), source=FieldSource("dis", "car"))
    state = guidance.start(model, SIZE, ["car"], [3], [field])
    instant = Instant(0.5, 0.0, Placement("conditional")).control(model, SIZE, [field])
    text, negative = model.embed(["a dog", made.entry.metadata.negative_prompt]).split(1)
    schedule = model.schedule(STEPS, 1.5)
    latents = sample(model, schedule, Prompt(text, negative), state, instant).latents
    off = (model.decode(latents)[0].float() - made.frames.float()).abs()
    assert float(off.max()) <= 1  # rounding of a pixel: tables are made of the same places


@pytest.mark.parametrize("kind", ["rotary", "sinusoidal"])
def test_a_change_in_words_is_that_of_the_field(kind: str) -> None:
    model = tiny_backbone(kind)
    wanted = inject_motion(model, mirrored(pan()), "a dog")
    assert torch.equal(
        inject_motion(model, pan(), "a dog", how=Injection(change="mirrored")), wanted
    )
    twice = Injection(change="mirrored, mirrored")
    assert torch.equal(
        inject_motion(model, entry_of(pan()), "a dog", how=twice),
        inject_motion(model, entry_of(pan()), "a dog"),
    )


def test_changes_are_checked_before_a_model_is_asked() -> None:
    with pytest.raises(ValueError, match="unknown change 'upside down'"):
        Injection(change="upside down")
