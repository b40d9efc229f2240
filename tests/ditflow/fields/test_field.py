"""A field as a value: what it refuses, and what stays when it is read on other grids and times."""

from dataclasses import replace

import pytest
import torch

from ditflow.fields.field import FieldError, cell_places, looked_up, resized
from tests.ditflow.fields.analytic import CELLS, TIMES, field, moving

ROUGH = field(torch.randn(3, 2, *CELLS))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"displacement": torch.zeros(3, 3, *CELLS)}, r"displacement \(F, 2, H, W\)"),
        ({"displacement": torch.zeros(2, *CELLS)}, r"displacement \(F, 2, H, W\)"),
        ({"confidence": torch.ones(3, 2, 2)}, r"confidence \(F, H, W\)"),
        ({"times": (0.0, 8.0)}, "has 2 times"),
        ({"displacement": torch.full((3, 2, *CELLS), torch.nan)}, "not finite"),
        ({"confidence": torch.full((3, *CELLS), torch.inf)}, "not finite"),
        ({"times": (0.0, 8.0, 4.0)}, "rise from 0 to at most 8"),
        ({"times": (0.0, 4.0, 4.0)}, "rise from 0 to at most 8"),
        ({"times": (-1.0, 4.0, 8.0)}, "rise from 0 to at most 8"),
        ({"times": (0.0, 4.0, 9.0)}, "rise from 0 to at most 8"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(wrong: dict, sentence: str) -> None:
    with pytest.raises(FieldError, match=sentence):
        replace(ROUGH, **wrong)


def test_read_as_it_is_it_is_the_same() -> None:
    same = ROUGH.resampled(TIMES, CELLS, ROUGH.frames)
    assert torch.equal(same.displacement, ROUGH.displacement)
    assert torch.equal(same.confidence, ROUGH.confidence)


@pytest.mark.parametrize("cells", [(12, 16), (48, 64), (7, 9), (1, 1)])
def test_a_shift_is_the_same_on_any_grid(cells: tuple[int, int]) -> None:
    pan = moving((0.3, -0.2))
    shift = pan.displacement[..., :1, :1]
    got = pan.resampled(TIMES, cells, pan.frames).displacement
    torch.testing.assert_close(got, shift.expand(3, 2, *cells))


def test_an_affine_motion_is_the_same_inside_of_a_coarser_grid() -> None:
    got = moving(zoom=1.5).resampled(TIMES, (6, 8), 9).displacement
    wanted = (cell_places(6, 8) - 0.5) * (1 / 1.5 - 1)
    torch.testing.assert_close(got[-1, :, 1:-1, 1:-1], wanted[:, 1:-1, 1:-1], rtol=0, atol=1e-5)


def test_between_times_it_is_interpolated() -> None:
    half = ROUGH.resampled((1.0, 6.0), CELLS, ROUGH.frames).displacement
    first, second, third = ROUGH.displacement
    torch.testing.assert_close(half[0], 0.75 * first + 0.25 * second)
    torch.testing.assert_close(half[1], 0.5 * second + 0.5 * third)


def test_the_whole_motion_is_spread_over_a_longer_video() -> None:
    longer = ROUGH.resampled((0.0, 8.0, 16.0), CELLS, 17)
    torch.testing.assert_close(longer.displacement, ROUGH.displacement)
    assert (longer.frames, longer.times) == (17, (0, 8, 16))


def test_confidence_stays_between_0_and_1() -> None:
    checks = (torch.arange(CELLS[1]) % 2).float().expand(3, *CELLS)
    got = ROUGH.replaced(ROUGH.displacement, checks).resampled(TIMES, (50, 70), 9).confidence
    assert got.min() >= 0
    assert got.max() <= 1


def test_replaced_keeps_what_is_not_given() -> None:
    still = ROUGH.replaced(torch.zeros(3, 2, *CELLS))
    assert not still.displacement.any()
    assert still.confidence is ROUGH.confidence
    assert (still.times, still.source, still.cells) == (TIMES, ROUGH.source, CELLS)


def test_places_are_the_centres_of_cells() -> None:
    places = cell_places(2, 4)
    torch.testing.assert_close(places[0, 0], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(places[1, :, 0], torch.tensor([0.25, 0.75]))


def test_looked_up() -> None:
    values = torch.randn(1, 3, *CELLS)
    torch.testing.assert_close(looked_up(values, torch.zeros(1, 2, *CELLS)), values)
    right = torch.tensor([1 / CELLS[1], 0])[:, None, None].expand(1, 2, *CELLS)
    found = looked_up(values, right)
    # places of float32 are exact to about 1e-6 of a frame, 1e-4 of a cell
    torch.testing.assert_close(found[..., :-1], values[..., 1:], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[..., -1], values[..., -1], rtol=0, atol=1e-4)  # the border
    nothing = looked_up(values, right, border=False)[..., -1]
    torch.testing.assert_close(nothing, torch.zeros_like(nothing), rtol=0, atol=1e-4)


def test_resized_to_a_coarser_grid_keeps_the_mean() -> None:
    values = torch.rand(2, 3, 24, 32)
    assert torch.equal(resized(values, (24, 32)), values)
    got = resized(values, (1, 1))[..., 0, 0]
    assert got.min() > values.min() and got.max() < values.max()
