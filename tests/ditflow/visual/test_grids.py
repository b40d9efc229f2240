"""Stills: which frames are shown and where."""

from __future__ import annotations

import io

import numpy
import pytest
import torch
from PIL import Image

from ditflow.visual import contact_sheet, png, still


def counting_video(frames: int) -> torch.Tensor:
    """Frame i has the value i everywhere: uint8 (T, 3, 2, 4)."""
    return torch.arange(frames, dtype=torch.uint8)[:, None, None, None].expand(frames, 3, 2, 4)


def test_sheet_shows_first_to_last_evenly():
    sheet = contact_sheet([counting_video(9), counting_video(5)], frames=3, gap=1)
    assert sheet.shape == (3, 2 + 1 + 2, 4 + 1 + 4 + 1 + 4)
    assert sheet[0, 0].tolist() == [0] * 4 + [255] + [4] * 4 + [255] + [8] * 4
    assert sheet[0, 2].tolist() == [255] * 14
    assert sheet[0, 4, [0, 5, 10]].tolist() == [0, 2, 4]


def test_sheet_refuses_frames_of_two_sizes():
    with pytest.raises(ValueError, match="frames of one size"):
        contact_sheet([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 5)], frames=2)


def test_one_image_needs_no_gap():
    image = counting_video(1)[0]
    torch.testing.assert_close(still([image]), image)


@pytest.mark.parametrize("channels", [3, 4])
def test_png_round_trip(channels):
    image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    read = numpy.asarray(
        Image.open(io.BytesIO(png(image))).convert("RGB" if channels == 3 else "RGBA")
    )
    torch.testing.assert_close(torch.from_numpy(read.copy()).permute(2, 0, 1), image)


def test_png_of_few_colours_is_small_and_exact():
    image = (
        torch.randint(
            0, 6, (3, 40, 60), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
        )
        * 50
    )  # 216 colours
    picture = Image.open(io.BytesIO(png(image)))
    assert picture.mode == "P"
    torch.testing.assert_close(
        torch.from_numpy(numpy.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1), image
    )
