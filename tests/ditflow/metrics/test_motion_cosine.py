"""The measured motion is that of the world, where it is known exactly."""

import pytest
import torch

from datamodules.synthetic import CAMERA_MOTIONS, SPRITE_MOTIONS, World
from ditflow.metrics import flow_cosine, measured_flows, motion_cosine, motion_pairs

WORLD = World()


@pytest.mark.parametrize(("motions", "least"), [(CAMERA_MOTIONS, 0.95), (SPRITE_MOTIONS, 0.7)])
def test_measured_motion_is_the_exact_one(motions: tuple[str, ...], least: float) -> None:
    clips = [WORLD.clip(seed, motion) for motion in motions for seed in range(3)]
    cosines = [motion_cosine(clip.flows(), clip.frames) for clip in clips]
    assert (
        sum(cosines) / len(cosines) > least
    )  # sprites: optical flow bleeds into the still ground around them


def test_direction_counts() -> None:
    frames = WORLD.clip(1, "pan").frames
    forward = measured_flows(frames)
    assert motion_cosine(forward, frames) == pytest.approx(1)
    assert motion_cosine(-forward, frames) == pytest.approx(-1)
    assert motion_cosine(3 * forward, frames) == pytest.approx(1)  # not speed


def test_static_videos() -> None:
    still, moving = torch.zeros(2, 2, 8, 8), torch.ones(2, 2, 8, 8)
    assert float(flow_cosine(still, still)) == 1
    assert float(flow_cosine(still, moving)) == 0


def test_pairs() -> None:
    assert motion_pairs(25) == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20), (20, 24)]
    with pytest.raises(
        ValueError, match="a video of 4 frames has no two frames 4 apart; give one of at least 5"
    ):
        motion_pairs(4)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        flow_cosine(torch.zeros(6, 2, 64, 64), torch.zeros(5, 2, 64, 64))
