"""Clips without a motion to follow are found; clips of every motion are not mistaken for them."""

import warnings

import pytest
import torch
from torch import Tensor

from datamodules.synthetic import MOTIONS, World
from ditflow.fields.field import FieldError
from ditflow.fields.sources import field_of

WORLD = World()


def joined(first: int, second: int, at: int) -> Tensor:
    """Two clips of the world with a cut at that frame."""
    return torch.cat([WORLD.clip(first).frames[:at], WORLD.clip(second).frames[at:]])


@pytest.mark.parametrize("seed", range(0, 12, 2))
@pytest.mark.parametrize("at", [7, 12])
def test_a_cut_is_found_at_its_frame(seed: int, at: int) -> None:
    with pytest.raises(
        FieldError, match=rf"clip 'a' has a cut at frame {at}:.*column start of a manifest"
    ):
        field_of(joined(seed, seed + 1, at), clip="a")


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("faster", [1, 2, 4])
def test_a_motion_is_no_cut_no_flicker_and_not_still(motion: str, faster: int) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        field_of(WORLD.clip(5, motion).frames[::faster])
    words = [str(warning.message) for warning in said]
    assert not [text for text in words if "in part only" not in text]


def test_a_still_clip_warns_and_does_not_move() -> None:
    frames = WORLD.clip(0).frames[:1].expand(9, -1, -1, -1)
    with pytest.warns(UserWarning, match="clip 'a' is still") as said:
        field = field_of(frames, clip="a")
    assert said[0].filename == __file__
    assert field.displacement.abs().max() < 0.25 / 64


def test_one_frame_holds_no_motion() -> None:
    with pytest.raises(FieldError, match="has one frame.*wanted at least 2 frames"):
        field_of(WORLD.clip(0).frames[:1])


@pytest.mark.parametrize("shape", [(3, 64, 64), (0, 3, 64, 64)])
def test_what_is_no_video_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FieldError, match=r"frames are \(T, C, Y, X\)"):
        field_of(torch.zeros(shape, dtype=torch.uint8))


def test_flicker_warns_and_flow_sees_little_of_it() -> None:
    frames = WORLD.clip(0).frames[:1].expand(9, -1, -1, -1).float()
    gain = torch.tensor([1, 1, 0.8, 0.8, 1, 1, 0.8, 0.8, 1])[:, None, None, None]
    with pytest.warns(UserWarning, match=r"brightness at frame 2, .* \d+% of the picture"):
        field = field_of((frames * gain).to(torch.uint8))
    assert field.displacement.norm(dim=1).mean() < 0.5 / 64  # half a pixel


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("dimmed", [0.4, 0.3])
def test_where_flicker_leaves_nothing_to_follow_it_is_no_cut_and_is_refused(
    motion: str, dimmed: float
) -> None:
    dim = torch.where(torch.arange(25) // 2 % 2 == 0, 1.0, dimmed)[:, None, None, None]
    frames = (WORLD.clip(22, motion).frames * dim).to(torch.uint8)
    with pytest.raises(FieldError, match=r"clip 'a' flickers, and \d% of the picture"):
        field_of(frames, clip="a")


@pytest.mark.filterwarnings("ignore:the clip can be followed in part only")
def test_a_light_that_goes_out_for_good_is_no_cut() -> None:
    frames = WORLD.clip(22, "pan").frames[:9].clone()
    frames[4:] = (frames[4:] * 0.3).to(torch.uint8)
    with pytest.warns(UserWarning, match="changes its brightness at frame 4"):
        field_of(frames)


@pytest.mark.parametrize("level", [0, 255])
def test_a_picture_that_ends_in_one_colour_is_cut(level: int) -> None:
    frames = WORLD.clip(1).frames[:9].clone()
    frames[4:] = level
    with pytest.raises(FieldError, match="has a cut at frame 4"):
        field_of(frames)


def test_where_a_part_flickers_the_share_that_is_followed_is_said() -> None:
    frames = WORLD.clip(3, "drift").frames.float()
    frames[2::4, ..., :24] *= 0.3
    with pytest.warns(UserWarning, match=r"in part only: .* \d\d% of the picture is filled"):
        field_of(frames.to(torch.uint8))


def test_what_cannot_be_followed_is_said_with_its_share() -> None:
    clip = next(c for c in map(WORLD.clip, range(40)) if c.motion == "pan")
    wide = clip.frames[..., :20]  # a pan of a third of the height leaves all of it
    with pytest.warns(UserWarning, match=r"in part only: at frame \d+, \d+% of the picture"):
        field_of(wide)
