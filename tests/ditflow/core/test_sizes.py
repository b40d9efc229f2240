from __future__ import annotations

import pytest

from ditflow.core.sizes import Compression, TokenGrid, VideoSize

COGVIDEOX = Compression()
LATER = Compression(patch_time=2)  # CogVideoX 1.5


@pytest.mark.parametrize(
    ("frames", "latent"),
    [(1, 1), (8, 2), (9, 3), (16, 4), (17, 5), (21, 6), (24, 6), (25, 7), (49, 13)],
)
def test_latent_frames(frames: int, latent: int) -> None:
    assert COGVIDEOX.latent_frames(frames) == latent


@pytest.mark.parametrize(
    ("latent", "frames"), [(1, 1), (2, 8), (3, 9), (4, 16), (5, 17), (6, 24), (7, 25), (13, 49)]
)
def test_decoded_frames(latent: int, frames: int) -> None:
    assert COGVIDEOX.decoded_frames(latent) == frames


def test_the_published_size_and_the_embedded_one() -> None:
    size = VideoSize(24, 480, 720)
    assert COGVIDEOX.latent_shape(size) == (6, 16, 60, 90)
    grid = COGVIDEOX.grid(size)
    assert (grid, grid.tokens_per_frame, grid.tokens) == (TokenGrid(6, 30, 45), 1350, 8100)
    assert Compression(4, 4, 2, 8).grid(VideoSize(25, 64, 64)) == TokenGrid(7, 8, 8)


def test_21_and_24_frames_have_the_same_tokens() -> None:
    assert COGVIDEOX.grid(VideoSize(21, 480, 720)) == COGVIDEOX.grid(VideoSize(24, 480, 720))


@pytest.mark.parametrize(
    ("height", "width", "nearest"),
    [(481, 720, "480x720"), (480, 700, "480x704"), (8, 16, "16x16"), (0, 720, "16x720")],
)
def test_odd_sizes_are_refused_with_those_that_fit(height: int, width: int, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"multiples of 16, such as {nearest}"):
        COGVIDEOX.latent_shape(VideoSize(24, height, width))


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        COGVIDEOX.grid(VideoSize(0, 480, 720))


@pytest.mark.parametrize(
    ("frames", "decoded", "nearest"),
    [(21, 24, "24 or 17"), (18, 17, "17 or 16"), (10, 9, "9 or 8"), (5, 8, "8 or 9")],
)
def test_a_length_that_would_not_come_back_is_refused_with_the_nearest_that_do(
    frames: int, decoded: int, nearest: str
) -> None:
    with pytest.raises(
        ValueError,
        match=f"a video of {frames} frames would come back with {decoded}: use {nearest}, which",
    ):
        COGVIDEOX.check_motion(VideoSize(frames, 480, 720))


@pytest.mark.parametrize("frames", [8, 9, 16, 17, 24, 25, 49])
def test_lengths_that_come_back(frames: int) -> None:
    COGVIDEOX.check_motion(VideoSize(frames, 480, 720))


def test_a_video_to_take_motion_from_divides_into_tokens() -> None:
    with pytest.raises(ValueError, match="multiples of 16, such as 480x720"):
        COGVIDEOX.check_motion(VideoSize(24, 481, 720))


@pytest.mark.parametrize(
    ("frames", "longest"),
    [(7, None), (8, 8), (9, 9), (15, 9), (16, 16), (24, 24), (27, 25), (49, 49)],
)
def test_the_longest_video_that_comes_back_as_long_as_it_is(
    frames: int, longest: int | None
) -> None:
    assert COGVIDEOX.longest(frames) == longest
    if longest is not None:
        COGVIDEOX.check_motion(VideoSize(longest, 480, 720))


@pytest.mark.parametrize("frames", [16, 24, 80])
def test_lengths_whose_latent_frames_go_into_tokens(frames: int) -> None:
    size = VideoSize(frames, 480, 720)
    LATER.check_motion(size)
    assert LATER.grid(size) == TokenGrid(frames // 8, 30, 45)
    assert LATER.longest(frames + 7) == frames


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (81, "81 frames does not divide into tokens, which span 2 latent frames: use 80 or 88"),
        (79, "79 frames would come back with 80: use 80 or 72"),
        (9, "9 frames holds no motion: it makes one row of tokens in time, .* Use 16 or more"),
    ],
)
def test_latent_frames_that_do_not_go_into_tokens_are_refused(frames: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"a video of {sentence}"):
        LATER.check_motion(VideoSize(frames, 480, 720))


def test_a_token_of_two_latent_frames_is_in_their_middle() -> None:
    times = Compression().token_times(16)
    pairs = zip(times[::2], times[1::2], strict=True)
    assert LATER.token_times(16) == tuple(sum(pair) / 2 for pair in pairs)


@pytest.mark.parametrize("size", [VideoSize(48, 480, 720), VideoSize(49, 480, 704)])
def test_positions_that_were_learned_are_for_one_size(size: VideoSize) -> None:
    learned = Compression(only=VideoSize(49, 480, 720))
    learned.check_motion(VideoSize(49, 480, 720))
    for check in (learned.check_motion, learned.grid, learned.latent_shape):
        with pytest.raises(ValueError, match=f"of {size} .* of one size: use 49x480x720"):
            check(size)
    assert (learned.longest(81), learned.longest(48)) == (49, None)


def test_coordinates_are_x_then_y_and_column_fastest() -> None:
    assert TokenGrid(2, 2, 3).coordinates().tolist() == [
        [0, 0],
        [1, 0],
        [2, 0],
        [0, 1],
        [1, 1],
        [2, 1],
    ]


def test_names() -> None:
    assert (str(VideoSize(25, 64, 64)), str(TokenGrid(7, 8, 8))) == ("25x64x64", "7x8x8")
