"""Where positions act: which passes see them, and how much of a motion each is given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ditflow.core.positions import Positions
from ditflow.models import Model
from ditflow.sampling.placement import Placement, balance
from tests.registry import SOME, grid_of, tiny_backbone
from tests.tapped import latents_of, text_of


def place(amount: float) -> Tensor:
    return torch.tensor(amount)


def moved(model: Model, by: float = 0.7) -> Tensor:
    """A position with every second token off its own place."""
    places = model.positions(grid_of(model))
    return model.position_at((places + by * (torch.arange(len(places)) % 2)[:, None])[None])


def step_of(model: Model, scale: float):
    return replace(model.schedule(4)[1], guidance_scale=scale)


@pytest.mark.parametrize("scale", [1.0, 1.5, 7.0])
def test_both_passes_are_given_the_whole_motion(scale: float) -> None:
    step = step_of(tiny_backbone("rotary"), scale)
    found = Placement("both", 0.5).positions(place, step)
    assert found == Positions(torch.tensor(0.5), torch.tensor(0.5))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_conditional_pass_alone_is_given_less_motion_at_higher_scales(strength: float) -> None:
    model = tiny_backbone("rotary")
    amounts = []
    for scale in (1.0, 1.5, 3.0, 5.0, 7.0):
        found = Placement("conditional", strength).positions(place, step_of(model, scale))
        assert found.unconditional is None and found.motion_scale is None
        assert found.conditional == pytest.approx(strength * balance(scale))
        amounts.append(float(found.conditional))
    assert amounts == sorted(amounts, reverse=True)


def test_a_motion_scale_takes_the_whole_motion() -> None:
    step = step_of(tiny_backbone("rotary"), 7.0)
    found = Placement(motion_scale=2.0).positions(place, step)
    assert found == Positions(torch.tensor(1.0), None, 2.0)


@pytest.mark.parametrize("kind", SOME)
def test_a_position_acts_in_its_own_pass(kind: str) -> None:
    """guided is u + s (c - u), each pass with its own position: bit by bit."""
    model = tiny_backbone(kind)
    latents, text, step = latents_of(model), text_of(model), step_of(model, 3.0)
    position, negative = moved(model), text_of(model).flip(0)
    with torch.no_grad(), model.tapped():
        own = model.predict(latents, step.timestep, negative)
        other = model.predict(latents, step.timestep, text, position)
        found = model.guided(latents, step, text, negative, Positions(position))
        plain = model.guided(latents, step, text, negative)
    torch.testing.assert_close(found, own + 3.0 * (other - own), rtol=0, atol=0)
    assert not torch.equal(found, plain)


@pytest.mark.parametrize("kind", SOME)
@pytest.mark.parametrize(("motion_scale", "passes"), [(None, 1), (2.0, 2)])
def test_a_guidance_scale_of_1_leaves_the_negative_prompt_out(
    kind: str, motion_scale: float | None, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """u + 1 (c - u) is c, whatever u is: what is left is the pass that has the motion."""
    model = tiny_backbone(kind)
    latents, text, step = latents_of(model), text_of(model), step_of(model, 1.0)
    positions = Positions(moved(model), motion_scale=motion_scale)
    seen, predict = [], model.predict
    with torch.no_grad(), model.tapped():
        still, with_motion = (
            predict(latents, step.timestep, text, at) for at in (None, positions.conditional)
        )
        monkeypatch.setattr(model, "predict", lambda *a: seen.append(a) or predict(*a))
        found = model.guided(latents, step, text, torch.full_like(text, torch.nan), positions)
    wanted = with_motion if motion_scale is None else still + 2.0 * (with_motion - still)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert len(seen) == passes


@pytest.mark.parametrize("kind", SOME)
def test_a_third_pass_scales_motion_apart_from_the_prompt(kind: str) -> None:
    """u + s (c0 - u) + m (c - c0): no motion at m = 0; at m = s what two passes give."""
    model = tiny_backbone(kind)
    latents, text, step = latents_of(model), text_of(model), step_of(model, 3.0)
    position, negative = moved(model), text_of(model).flip(0)

    def guided(positions: Positions) -> Tensor:
        with torch.no_grad(), model.tapped():
            return model.guided(latents, step, text, negative, positions)

    none, plain = guided(Positions(position, motion_scale=0.0)), guided(Positions())
    torch.testing.assert_close(none, plain, rtol=0, atol=0)
    same, two = guided(Positions(position, motion_scale=3.0)), guided(Positions(position))
    # the same sum in another order: a few roundings of numbers of the size of the output
    room = 16 * torch.finfo(torch.float32).eps * float(two.abs().max()) * 3
    torch.testing.assert_close(same, two, rtol=0, atol=room)
    half, full = (guided(Positions(position, motion_scale=m)) - plain for m in (0.5, 1.0))
    torch.testing.assert_close(2 * half, full, rtol=0, atol=room)


@pytest.mark.parametrize("kind", SOME)
def test_own_places_give_the_own_position_bit_by_bit(kind: str) -> None:
    model = tiny_backbone(kind)
    latents, text, step = latents_of(model), text_of(model), step_of(model, 3.0)
    stock = model.stock_position(grid_of(model))
    with torch.no_grad(), model.tapped():
        plain = model.guided(latents, step, text, text)
        placed = model.guided(latents, step, text, text, Positions.everywhere(stock))
    torch.testing.assert_close(placed, plain, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"passes": "third"}, "unknown passes 'third': it is one of both, conditional"),
        ({"strength": float("nan")}, "strength is nan, but it must be a finite number"),
        (
            {"strength": 1e300},
            "strength is 1e.300, but it must be a finite number from -100",
        ),
        ({"strength": -101}, "strength is -101, but it must be a finite number from -100 to 100"),
        ({"motion_scale": float("inf")}, "motion_scale is inf, but it must be a finite number"),
        ({"passes": "both", "motion_scale": 2.0}, "makes no sense with passes 'both'"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Placement(**arguments)
