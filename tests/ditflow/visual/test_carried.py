"""A texture carried along a field: it stands still, moves and turns exactly as the content does."""

from __future__ import annotations

import pytest
import torch

from ditflow.visual.carried import CHECKS, GREY, carried
from tests.ditflow.fields.analytic import ASPECT, FRAMES, moving

SHAPE = (60, 90)  # pixels of the same shape as the field's frame
LAST = FRAMES - 1.0


def drawn(field, moments=(0.0, LAST)):
    return carried(field, moments, SHAPE).float()


def test_a_still_field_shows_one_picture_all_the_time():
    pictures = carried(moving(), (0.0, 3.3, LAST), SHAPE)
    assert pictures.shape == (3, 3, *SHAPE) and pictures.dtype == torch.uint8
    assert torch.equal(pictures[0], pictures[2]) and torch.equal(pictures[0], pictures[1])
    assert pictures[0].float().std() > 20  # there is something to see


@pytest.mark.parametrize(("shift", "pixels"), [((0.2, 0), (0, 12)), ((0, -0.1), (-6, 0))])
def test_a_pan_moves_the_picture_as_far(shift, pixels):
    """A tenth of the height is 6 of 60 pixels: x right, y down."""
    first, last = drawn(moving(shift))
    moved = first.roll(pixels, dims=(1, 2))
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[12:-12, 18:-18] = True  # away from what came in at a side
    error, as_if_still = ((last - picture).abs()[:, inside].mean() for picture in (moved, first))
    assert error < 1.5 < 20 < as_if_still  # of 255; cells are interpolated to pixels


def test_half_way_in_time_is_half_the_way():
    half = drawn(moving((0.2, 0)), (LAST / 2,))[0]
    torch.testing.assert_close(half, drawn(moving((0.1, 0)))[1], rtol=0, atol=1.0)  # rounding


def test_what_turns_about_the_centre_turns():
    """By half a turn, the picture is that of the other side, but for half a cell at the border."""
    last, turned = drawn(moving(degrees=180))[1], drawn(moving())[0].flip(1, 2)
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(last[inside], turned[inside], rtol=0, atol=4.0)


def test_zoom_makes_checks_larger():
    """Along a row, edges of checks are fewer."""

    def edges(picture):
        row = picture[0, SHAPE[0] // 2 - 6] > 150
        return int(row.diff().sum())

    first, last = drawn(moving(zoom=2.0))
    assert edges(first) in range(6, 2 + round(CHECKS * ASPECT)) and edges(last) <= edges(first) - 2


def test_what_was_filled_in_is_grey():
    field = moving((0.2, 0))
    trust = field.confidence.clone()
    trust[:, :, :8] = 0
    last = drawn(field.replaced(field.displacement, trust))[1]
    left, right = last[..., :15], last[..., 40:]
    assert (left[0] == left[2]).all() and GREY[0] <= left.min() and left.max() <= GREY[1]
    assert (right[0] - right[2]).abs().max() > 40


def test_a_field_as_far_as_any_goes_is_drawn_too():
    field = moving()
    far = field.displacement + torch.tensor([99.0, -99.0])[:, None, None]
    assert carried(field.replaced(far), (0.0, LAST), SHAPE).shape == (2, 3, *SHAPE)
