"""A picture that a video is to begin with: upright, and at the video's size."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image as pil

from ditflow.video import VideoError, read_image, read_mask


def ramp(rows: int, columns: int) -> np.ndarray:
    """Columns that grow lighter to the right."""
    light = np.linspace(0, 255, columns).round().astype(np.uint8)
    return np.broadcast_to(light[None, :, None], (rows, columns, 3)).copy()


def test_a_picture_of_the_videos_size_stays_as_it_is(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    pil.fromarray(pixels).save(tmp_path / "cat.png")
    image = read_image(tmp_path / "cat.png")
    assert torch.equal(image.pixels, torch.from_numpy(pixels).permute(2, 0, 1))
    assert torch.equal(image.fitted(8, 12), image.pixels)
    assert image.sha256 == hashlib.sha256((tmp_path / "cat.png").read_bytes()).hexdigest()


@pytest.mark.filterwarnings("error")
def test_the_middle_of_a_wider_picture_is_kept_and_the_ratio_with_it(tmp_path) -> None:
    """Of 48 columns at 32 rows, a square keeps columns 8 to 39: 2/3, which is not warned of."""
    pil.fromarray(ramp(32, 48)).save(tmp_path / "wide.png")
    fitted = read_image(tmp_path / "wide.png").fitted(32, 32)
    assert torch.equal(fitted[0, 0], torch.from_numpy(ramp(32, 48)[0, 8:40, 0]))
    half = read_image(tmp_path / "wide.png").fitted(16, 16)
    assert (half[0, 0].float() - fitted[0, 0].float().view(16, 2).mean(1)).abs().max() <= 4


def test_a_picture_of_another_shape_warns_with_the_numbers(tmp_path) -> None:
    pil.fromarray(ramp(10, 40)).save(tmp_path / "strip.png")
    said = "has 10 x 40 pixels and the video 20 x 40, so only the middle 50% of the picture is used"
    with pytest.warns(UserWarning, match=said):
        read_image(tmp_path / "strip.png").fitted(20, 40)


def test_a_picture_is_upright(tmp_path) -> None:
    exif = pil.Exif()
    exif[0x0112] = 6  # turned a quarter clockwise to be seen
    pil.fromarray(ramp(8, 16)).save(tmp_path / "phone.png", exif=exif)
    assert read_image(tmp_path / "phone.png").pixels.shape == (3, 16, 8)


def test_what_is_no_picture_is_said(tmp_path) -> None:
    (tmp_path / "cat.png").write_bytes(b"meow")
    with pytest.raises(VideoError, match=r"cat\.png is not a picture that can be decoded"):
        read_image(tmp_path / "cat.png")
    with pytest.raises(VideoError, match="There is no file or folder .*dog.png"):
        read_image(tmp_path / "dog.png")


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_a_mask_is_white_inside(tmp_path, mode: str) -> None:
    pixels = np.zeros((6, 8), dtype=np.uint8)
    pixels[:, :4] = 255
    pil.fromarray(pixels).convert(mode).save(tmp_path / "left.png")
    mask = read_mask(tmp_path / "left.png")
    assert torch.equal(mask.region, torch.from_numpy(pixels / np.float32(255)))
    assert mask.sha256 == hashlib.sha256((tmp_path / "left.png").read_bytes()).hexdigest()


def test_what_is_transparent_is_outside_of_a_mask(tmp_path) -> None:
    pixels = np.full((6, 8, 4), 255, dtype=np.uint8)
    pixels[:, 4:, 3] = 0
    pixels[:, 2:4, 3] = 51  # a fifth
    pil.fromarray(pixels).save(tmp_path / "left.png")
    wanted = torch.tensor([1, 1, 0.2, 0.2, 0, 0, 0, 0]).expand(6, 8)
    torch.testing.assert_close(read_mask(tmp_path / "left.png").region, wanted)


def test_a_mask_may_be_soft_and_a_photograph_of_a_mask(tmp_path) -> None:
    pil.fromarray(ramp(32, 48)).save(tmp_path / "ramp.jpg", quality=95)
    region = read_mask(tmp_path / "ramp.jpg").region
    assert region.dtype == torch.float32 and region.shape == (32, 48)
    assert (region - torch.from_numpy(ramp(32, 48)[..., 0] / 255)).abs().max() < 0.03


def test_a_mask_that_shows_nothing_is_said(tmp_path) -> None:
    pil.new("L", (8, 6)).save(tmp_path / "night.png")
    with pytest.raises(
        VideoError, match=r"night\.png is black or transparent all over, so it shows"
    ):
        read_mask(tmp_path / "night.png")
    with pytest.raises(VideoError, match=r"There is no file or folder .*none\.png"):
        read_mask(tmp_path / "none.png")
