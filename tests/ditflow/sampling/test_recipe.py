"""Choices: what is chosen is used, and the rest is what is recommended for the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ditflow.models.presets import recommended
from ditflow.sampling import recipe
from ditflow.sampling.recipe import Choices
from tests.registry import tiny_backbone

ADVISED: dict[str, Any] = {
    "passes": "conditional",
    "begin": "field",
    "noise_share": 0.25,
    "inner_steps": 2,
}
CHOSEN: dict[str, Any] = {"passes": "both", "begin": "own", "noise_share": 0.0, "inner_steps": 1}


@pytest.fixture
def advised(monkeypatch):
    """A model that everything is recommended for which is not published."""
    monkeypatch.setattr(recipe, "recommended", lambda spec: replace(recommended(spec), **ADVISED))
    return tiny_backbone("rotary")


def settings(recipe: recipe.Recipe) -> dict[str, Any]:
    return {name: recipe.provenance[name] for name in ADVISED}


@pytest.mark.parametrize("name", ADVISED)
def test_a_choice_comes_before_what_is_recommended(advised, name: str) -> None:
    assert settings(Choices().on(advised)) == ADVISED
    chosen = Choices(**{name: CHOSEN[name]}).on(advised)
    assert settings(chosen) == ADVISED | {name: CHOSEN[name]}


def test_latents_begin_at_no_places(advised) -> None:
    """So no field is needed for them, unless noise moves along."""
    latents = Choices(variable="latents", noise_share=0.0).on(advised).guidance
    assert latents.begin == "own" and not latents.follows
    assert Choices(variable="latents").on(advised).guidance.follows


def test_without_a_signal_nothing_of_the_clips_motion_is_taken(advised) -> None:
    plain = Choices(signal=None).on(advised).guidance
    assert not plain.follows
    assert Choices(signal=None, noise_share=0.5).on(advised).guidance.follows


def test_a_recipe_says_what_it_takes_of_the_field(advised) -> None:
    said = "in the conditional pass, from the clip's field, 0.25 of the noise moves along"
    assert str(Choices().on(advised)).endswith(said)
    assert str(Choices(**CHOSEN).on(advised)).split(", ")[-1].startswith("1 updates (adam)")
