"""Two motions in one: after one another, and in two parts of the frame.

Affine motions are interpolated exactly; what differs are rounding and the ridge of the fit beyond
the frame: 1e-3 of the frame is far less than a cell.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.operations import chained, parted, restricted, reversed_in_time, scaled
from tests.ditflow.fields.analytic import CELLS, FRAMES, TIMES, moving

CLOSE = {"rtol": 0, "atol": 1e-3}
STILL = moving()
AFFINE = moving((0.15, -0.1), 1.2, 15)
LAST = FRAMES - 1.0


def shown(field: MotionField, time: float) -> Tensor:
    """Displacement (2, H, W) at a time."""
    return field.resampled([time], field.cells, field.frames).displacement[0]


def same(found: MotionField, wanted: MotionField) -> None:
    """At the times of both."""
    for time in sorted({*found.times, *wanted.times}):
        torch.testing.assert_close(shown(found, time), shown(wanted, time), **CLOSE)


@pytest.mark.parametrize("at", [0.25, 0.5, 0.8])
def test_pans_go_one_way_and_then_the_other(at: float) -> None:
    """Each whole, at constant speed: the known displacement at any time."""
    right, down = (0.3, 0.0), (0.0, 0.2)
    found = chained(moving(right), moving(down), at)
    assert (found.frames, found.times[0], found.times[-1]) == (FRAMES, 0.0, LAST)
    for time in (0.0, 0.5 * at * LAST, at * LAST, (at + 1) / 2 * LAST, LAST):
        share = time / LAST
        first, second = min(share / at, 1.0), max((share - at) / (1 - at), 0.0)
        gone = moving((right[0] * first, down[1] * second)).displacement[-1]
        torch.testing.assert_close(shown(found, time), gone, **CLOSE)


def test_nothing_jumps_between_them() -> None:
    found = chained(AFFINE, moving((-0.2, 0.1), 0.9), 0.5)
    seam, moment = 0.5 * LAST, 1e-4
    before, after = shown(found, seam - moment), shown(found, seam + moment)
    torch.testing.assert_close(shown(found, seam), AFFINE.displacement[-1], rtol=0, atol=1e-6)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-3)


def test_before_or_after_stillness_a_motion_stays() -> None:
    first = chained(AFFINE, STILL, 0.5)
    torch.testing.assert_close(shown(first, 0.5 * LAST), AFFINE.displacement[-1], **CLOSE)
    torch.testing.assert_close(shown(first, LAST), AFFINE.displacement[-1], **CLOSE)
    later = chained(STILL, AFFINE, 0.5)
    assert not shown(later, 0.5 * LAST).any()
    torch.testing.assert_close(shown(later, LAST), AFFINE.displacement[-1], **CLOSE)


def test_there_and_back_ends_where_it_began() -> None:
    found = chained(AFFINE, reversed_in_time(AFFINE))
    torch.testing.assert_close(shown(found, LAST), torch.zeros(2, *CELLS), **CLOSE)


def test_three_can_be_grouped_either_way() -> None:
    one, two, three = moving((0.1, 0.05)), moving(zoom=1.15), moving(degrees=10)
    same(chained(chained(one, two, 0.5), three, 2 / 3), chained(one, chained(two, three), 1 / 3))


def test_another_anchor_grid_and_length_make_no_difference() -> None:
    second = moving((0.2, 0.0))
    wanted = chained(AFFINE, second)
    shorter = second.resampled((0.0, 2.0, 4.0), (12, 16), 5)
    same(chained(AFFINE, shorter), wanted)
    end = second.displacement[-1:]
    told_from_the_end = second.replaced(second.displacement - end)
    same(chained(AFFINE, told_from_the_end), wanted)


def test_confidences_multiply() -> None:
    half = [field.replaced(field.displacement, field.confidence / 2) for field in (STILL, STILL)]
    found = chained(*half)
    at = torch.tensor(found.times)
    assert (found.confidence[at <= 0.5 * LAST] == 0.5).all()
    assert (found.confidence[at > 0.5 * LAST] == 0.25).all()


def test_a_part_of_the_frame_moves_its_own_way() -> None:
    box = (0.0, 0.0, 0.5, 1.0)
    left, right = moving((0.1, 0.0)), moving((0.0, 0.1))
    found = parted(left, right, box)
    half = CELLS[1] // 2
    assert torch.equal(found.displacement[..., :half], left.displacement[..., :half])
    assert torch.equal(found.displacement[..., half:], right.displacement[..., half:])
    assert torch.equal(
        parted(left, STILL, box, moving=True).displacement,
        restricted(left, box, moving=True).displacement,
    )
    same(parted(left, left, box), left)
    mixed = parted(left, scaled(left, 0), torch.full((2, 2), 0.5))
    torch.testing.assert_close(mixed.displacement, left.displacement / 2)


def test_the_part_outside_may_have_other_times() -> None:
    other = moving((0.0, 0.1)).resampled((0.0, 1.0, 4.0), (6, 8), 5)
    found = parted(STILL, other, (0.0, 0.0, 0.5, 1.0))
    assert {*TIMES} <= {*found.times} and found.cells == CELLS
    torch.testing.assert_close(
        found.displacement[-1, 1, :, -1], moving((0.0, 0.1)).displacement[-1, 1, :, -1], **CLOSE
    )


@pytest.mark.parametrize("at", [0, 1, -0.5, math.nan])
def test_each_needs_some_of_the_time(at: float) -> None:
    with pytest.raises(FieldError, match="ends and the next begins at a share from 0 to 1, not"):
        chained(STILL, STILL, at)
