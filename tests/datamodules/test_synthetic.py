"""The world's motion is exact: pixels really move where its flow says."""

import pytest
import torch
from torch.nn import functional

from datamodules.synthetic import HELD_OUT, MOTIONS, PALETTES, World, palette_of
from ditflow.core.sizes import VideoSize

WORLD = World()


def warp(frame: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """What frame i looks like if it is made of frame j's pixels at the places that the flow from i
    to j names.
    """
    height, width = frame.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float32),
        torch.arange(width, dtype=torch.float32),
        indexing="ij",
    )
    points = torch.stack(
        [(columns + flow[0]) * 2 / (width - 1) - 1, (rows + flow[1]) * 2 / (height - 1) - 1], -1
    )
    return functional.grid_sample(frame[None].float(), points[None], align_corners=True)[0]


@pytest.mark.parametrize("motion", MOTIONS)
def test_flow_carries_pixels(motion: str) -> None:
    clip = WORLD.clip(3, motion)
    for first, second in ((0, 4), (20, 8)):
        seen = clip.visible(first, second)
        assert seen.float().mean() > 0.25
        error = (
            (warp(clip.frames[second], clip.flow(first, second)) - clip.frames[first])
            .abs()
            .mean(0)[seen]
        )
        still = (clip.frames[second].float() - clip.frames[first].float()).abs().mean(0)[seen]
        assert (
            error.quantile(0.9) < 2.5
        )  # grey levels of 255: rounding and interpolation, and a soft edge around sprites
        assert error.mean() < 0.5 * still.mean()


@pytest.mark.parametrize("motion", MOTIONS)
def test_flow_there_and_back_is_the_identity(motion: str) -> None:
    clip, pixels = WORLD.clip(5, motion), torch.tensor([[20.0, 30.0], [32.0, 32.0], [40.5, 21.25]])
    moved, seen = clip.advance(2, 9, pixels)
    back, _ = clip.advance(9, 2, moved)
    torch.testing.assert_close(back[seen], pixels[seen], rtol=0, atol=1e-3)


def test_tracks_agree_with_flow() -> None:
    clip, points = WORLD.clip(7, "orbit"), torch.tensor([[10.0, 12.0], [32.0, 40.0]])
    tracks, seen = clip.tracks(points)
    assert tracks.shape == (25, 2, 2) and seen.shape == (25, 2)
    for point, end in zip(points.int().tolist(), tracks[24], strict=True):
        torch.testing.assert_close(
            end,
            torch.tensor(point).float() + clip.flow(0, 24)[:, point[1], point[0]],
            rtol=0,
            atol=1e-4,
        )


def test_a_seed_is_a_clip() -> None:
    assert torch.equal(WORLD.clip(11).frames, WORLD.clip(11).frames)
    assert not torch.equal(WORLD.clip(11).frames, WORLD.clip(HELD_OUT + 11).frames)


def test_the_prompt_never_tells_the_motion() -> None:
    prompts = {WORLD.clip(seed, "pan").prompt for seed in range(60)}
    assert prompts == {WORLD.clip(seed, "rotation").prompt for seed in range(60)}
    assert prompts <= set(WORLD.prompts()) and len(prompts) == len(PALETTES)


def test_palettes_can_be_told_apart() -> None:
    clips = [WORLD.clip(seed, MOTIONS[seed % 4]) for seed in range(60)]
    right = [palette_of(clip.frames) == clip.palette for clip in clips]
    assert sum(right) >= 57


def test_motion_is_scaled_to_the_frame() -> None:
    small, large = (
        World(VideoSize(9, 32, 32)).clip(2, "pan"),
        World(VideoSize(9, 64, 64)).clip(2, "pan"),
    )
    torch.testing.assert_close(
        2 * small.flow(0, 8)[:, 5, 5], large.flow(0, 8)[:, 11, 11], rtol=1e-3, atol=1e-3
    )


def test_an_unknown_motion_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown motion 'jump'; this world knows pan, arc"):
        WORLD.clip(0, "jump")
