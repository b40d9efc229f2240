"""Previews: the file itself while it is light, lighter copies of it while it is not."""

from __future__ import annotations

import pytest
import torch

from ditflow.video import VideoError, read_video, write_video
from ditflow.visual import preview
from ditflow.visual.previews import RUNGS


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Nothing is heavier: 8 frames of noise, which no codec can compress."""
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    write_video(
        path,
        torch.randint(
            0, 256, (8, 3, 360, 640), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
        ),
        8.0,
    )
    return path


def test_a_light_video_goes_in_as_it_is(noise):
    found = preview(noise, noise.stat().st_size)
    assert found.video == noise.read_bytes() and found.shape == (360, 640)


@pytest.mark.parametrize("share", [400_000, 100_000, 30_000])
def test_a_heavy_one_is_made_to_fit_and_keeps_its_time_and_shape(noise, share, tmp_path):
    found = preview(noise, share)
    assert len(found.video) <= share < noise.stat().st_size
    (tmp_path / "copy.mp4").write_bytes(found.video)
    copy = read_video(tmp_path / "copy.mp4")
    assert copy.fps == 8.0 and len(copy.frames) == 8 and tuple(copy.frames.shape[2:]) == found.shape
    assert found.shape[1] / found.shape[0] == pytest.approx(
        16 / 9, rel=0.03
    )  # sides are rounded to even numbers


def test_the_last_rung_is_taken_where_nothing_fits(noise):
    assert max(preview(noise, 1).shape) == RUNGS[-1][0]


def test_a_small_video_is_never_enlarged(tmp_path):
    write_video(tmp_path / "small.mp4", torch.zeros(2, 3, 16, 32, dtype=torch.uint8), 8.0)
    assert preview(tmp_path / "small.mp4", 1).shape == (16, 32)


def test_what_does_not_play_is_refused(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match="broken.mp4"):
        preview(tmp_path / "broken.mp4", 10**9)
