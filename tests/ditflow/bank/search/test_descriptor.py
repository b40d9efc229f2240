"""Descriptors: their products are the cosine of motions, whatever the clip's size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ditflow.bank.search.descriptor import CELLS, LENGTH, PARTS, descriptor
from tests.ditflow.fields.analytic import field, moving


@pytest.mark.parametrize(
    "motion", [((0.2, 0),), ((0, 0), 1.3), ((0, 0), 1, 20), ((0.1, -0.3), 0.8, 5)]
)
def test_a_motion_is_like_itself_and_unlike_its_opposite(motion: tuple) -> None:
    """Also at a quarter of the speed; a descriptor of norm 1 has a product of 1 with itself."""
    moved = moving(*motion)
    own = descriptor(moved)
    assert own.shape == (LENGTH,) and own.dtype == np.float32
    assert float(own @ own) == pytest.approx(1, abs=1e-5)
    slower, opposite = (moved.replaced(share * moved.displacement) for share in (0.25, -1))
    assert float(own @ descriptor(slower)) == pytest.approx(1, abs=1e-5)
    assert float(own @ descriptor(opposite)) == pytest.approx(-1, abs=1e-5)


def test_unrelated_motions_have_no_likeness() -> None:
    """A pan, a tilt, a zoom and a turn about the centre are orthogonal over the frame."""
    small = moving((0.02, 0)), moving((0, 0.02)), moving((0, 0), 1.02), moving((0, 0), 1, 1)
    each = np.stack([descriptor(moved) for moved in small])
    np.testing.assert_allclose(each @ each.T, np.eye(4), rtol=0, atol=0.01)  # of 2 % of growth


@pytest.mark.parametrize("cells", [(1, 1), (3, 7), (6, 6), (24, 32), (13, 100)])
@pytest.mark.parametrize("times", [(0.0, 8.0), (1.0, 2.5, 7.0)])
def test_it_is_of_the_field_that_is_resampled(cells: tuple, times: tuple) -> None:
    """Which torch does. Sums of some hundred products in float32 differ by some 1e-6."""
    drawn = torch.randn(len(times), 2, *cells, generator=torch.Generator().manual_seed(0))
    moved = replace(moving(), displacement=drawn, confidence=drawn[:, 0] * 0, times=times)
    at = [part * (moved.frames - 1) / PARTS for part in range(PARTS + 1)]
    coarse = moved.resampled(at, CELLS, moved.frames).displacement.diff(dim=0)
    wanted = -(coarse * torch.tensor([moved.aspect, 1])[:, None, None]).flatten()
    wanted = (wanted / wanted.norm()).numpy()
    np.testing.assert_allclose(descriptor(moved), wanted, rtol=0, atol=1e-5)


def test_it_hardly_depends_on_the_grid_and_the_times() -> None:
    moved = moving((0.1, 0.2), 1.2, 10)
    coarse = moved.resampled((0.0, 2.0, 4.0, 6.0, 8.0), (8, 12), moved.frames)
    assert float(descriptor(moved) @ descriptor(coarse)) > 0.999  # linear in time but for the turn


@pytest.mark.parametrize("value", [0.0, 1e-4])
def test_what_does_not_move_is_zero(value: float) -> None:
    moved = moving().displacement
    moved[1:] = value
    moved[2] *= -1
    assert not descriptor(field(moved)).any()


def test_one_time_and_one_cell() -> None:
    one = moving((0.2, 0)).resampled((4.0,), (1, 1), 9)
    assert not descriptor(one).any()  # of a motion that is known at one time nothing is known
