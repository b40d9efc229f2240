"""Metrics of appearance, with an embedding simple enough to compute by hand: the mean colour."""

from __future__ import annotations

import math

import pytest

from ditflow.metrics import (
    MetricError,
    appearance_leakage,
    diversity,
    prompt_fidelity,
    temporal_consistency,
)
from tests.ditflow.metrics.colours import Colours, video

CLIP = Colours()


def test_prompt_fidelity_is_the_raw_mean_cosine() -> None:
    assert prompt_fidelity(CLIP, video("red", "red"), "red") == pytest.approx(1)
    assert prompt_fidelity(CLIP, video("red", "green"), "red") == pytest.approx(0.5)
    # yellow is red and green
    assert prompt_fidelity(CLIP, video("yellow"), "red") == pytest.approx(math.sqrt(0.5))


def test_temporal_consistency() -> None:
    assert temporal_consistency(CLIP, video("red", "red", "red")) == pytest.approx(1)
    assert temporal_consistency(CLIP, video("red", "red", "green")) == pytest.approx(0.5)
    assert temporal_consistency(CLIP, video("red", "green", "red")) == pytest.approx(0)


def test_leakage_is_of_appearance_and_not_of_motion() -> None:
    clip = video("red", "yellow", "green")
    assert appearance_leakage(CLIP, clip, clip) == pytest.approx(1)
    # the same frames in another order
    assert appearance_leakage(CLIP, clip, clip.flip(0)) == pytest.approx(1)
    # the length does not matter
    assert appearance_leakage(CLIP, video("red"), video("green", "green")) == pytest.approx(0)


def test_diversity() -> None:
    red, green = video("red", "red"), video("green", "green")
    assert diversity(CLIP, [red, red]) == pytest.approx(0)
    assert diversity(CLIP, [red, green]) == pytest.approx(1)
    assert diversity(CLIP, [red, green, red]) == pytest.approx(2 / 3)  # of three pairs one is alike


def test_bad_input() -> None:
    with pytest.raises(MetricError, match="prompt fidelity needs the prompt"):
        prompt_fidelity(CLIP, video("red"), " ")
    with pytest.raises(MetricError, match="the video has one frame; give at least 2"):
        temporal_consistency(CLIP, video("red"))
    for count in (0, 1):
        said = f"there is {count}; make videos for at least 2 prompts"
        with pytest.raises(MetricError, match=said):
            diversity(CLIP, [video("red")] * count)
    said = r"the video is float32 of shape \(2, 3, 4, 4\); a video is uint8"
    with pytest.raises(MetricError, match=said):
        prompt_fidelity(CLIP, video("red", "red").float(), "red")
