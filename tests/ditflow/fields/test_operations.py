"""Operations on motions: closed forms, identities, inverses and compositions.

Interpolation is exact on affine motions, so their results differ by rounding, by the stop of
Newton's method and by the ridge of the fit beyond the frame: 1e-3 of the frame is far less than a
cell.
"""

from __future__ import annotations

import math

import pytest
import torch

from ditflow.fields.field import FieldError, MotionField
from ditflow.fields.operations import (
    added,
    anchored,
    composed,
    mirrored,
    paced,
    restricted,
    reversed_in_time,
    rotated,
    scaled,
    slowed,
    smoothed,
    trimmed,
)
from ditflow.fields.operations.regions import region_mask
from tests.ditflow.fields.analytic import ASPECT, CELLS, FRAMES, field, moving

MOTIONS = [
    moving(),
    moving((0.2, -0.1)),
    moving(zoom=1.5),
    moving(zoom=0.7),
    moving(degrees=90),
    moving((0.1, 0.1), 1.2, -20),
]
each = pytest.mark.parametrize("motion", MOTIONS)


def same(got: MotionField, wanted: MotionField, atol: float = 1e-3) -> None:
    torch.testing.assert_close(got.displacement, wanted.displacement, rtol=0, atol=atol)
    assert (got.times, got.frames, got.aspect) == (wanted.times, wanted.frames, wanted.aspect)


def some(seed: int) -> MotionField:
    """Any field at all, with any confidence."""
    draw = torch.Generator().manual_seed(seed)
    moved = field(torch.randn(3, 2, *CELLS, generator=draw) * 0.1)
    return moved.replaced(moved.displacement, torch.rand(3, *CELLS, generator=draw))


def test_scaled() -> None:
    same(scaled(moving((0.1, 0.2)), 2), moving((0.2, 0.4)), 1e-6)
    assert torch.equal(scaled(some(0), 1).displacement, some(0).displacement)
    assert not scaled(some(0), 0).displacement.any()


def test_added() -> None:
    same(added(moving((0.1, 0.2)), moving((0.3, -0.1))), moving((0.4, 0.1)), 1e-6)
    assert torch.equal(added(some(0), some(1)).displacement, added(some(1), some(0)).displacement)
    lower = torch.minimum(some(0).confidence, some(1).confidence)
    assert torch.equal(added(some(0), some(1)).confidence, lower)


def test_two_fields_come_to_the_times_of_both_and_the_cells_of_the_first() -> None:
    pan, other = moving((0.1, 0.2)), moving((0.3, -0.1)).resampled((0, 3, 16), (10, 7), 17)
    found = added(pan, other)
    at = found.resampled(pan.times, pan.cells, pan.frames)
    same(at, moving((0.4, 0.1)), 1e-5)  # it is steady
    assert found.cells == pan.cells and {*pan.times, 1.5} <= {*found.times}


def test_a_sum_does_not_depend_on_the_order() -> None:
    """Also where one motion has fewer times, or has ended before the video does."""
    swing, pan = moving((0.1, 0.0)), paced(moving((0.0, 0.3)), 0.5)
    coarse = swing.resampled((0, swing.frames - 1), swing.cells, swing.frames)
    for first, second in ((swing, pan), (coarse, pan)):
        one, other = added(first, second), added(second, first)
        assert one.times == other.times
        torch.testing.assert_close(one.displacement, other.displacement, rtol=0, atol=1e-6)


def test_a_video_that_ends_in_a_hold_begins_with_it_backwards() -> None:
    pan = moving((0.4, 0.0))
    back = reversed_in_time(paced(pan, 0.5))
    half = (pan.frames - 1) / 2
    held, moved = back.resampled((half, pan.frames - 1), pan.cells, pan.frames).displacement
    assert held.abs().max() < 1e-6
    torch.testing.assert_close(moved, -pan.displacement[-1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("factor", [0.99, 1.02, 1.03])
def test_paced_is_exact_however_close_to_1(factor: float) -> None:
    pan = moving((0.4, 0.0))
    wanted = pan.displacement[-1] * min(1 / factor, 1.0)
    torch.testing.assert_close(paced(pan, factor).displacement[-1], wanted, rtol=0, atol=1e-5)


@each
def test_composed_with_no_motion_is_the_motion(motion: MotionField) -> None:
    same(composed(motion, moving()), motion, 1e-5)
    same(composed(moving(), motion), motion, 1e-5)


def test_composed_motions_are_one_after_the_other() -> None:
    same(composed(moving(zoom=1.5), moving(zoom=1.2)), moving(zoom=1.8))
    same(composed(moving(degrees=30), moving(degrees=-50)), moving(degrees=-20))
    same(composed(moving(zoom=1.5, degrees=20), moving((0.1, 0.2))), moving((0.1, 0.2), 1.5, 20))
    first, second, third = MOTIONS[1], MOTIONS[2], MOTIONS[5]
    same(composed(composed(first, second), third), composed(first, composed(second, third)))


@each
def test_anchored_at_the_anchor_is_the_same(motion: MotionField) -> None:
    assert anchored(motion, 0) is motion


@each
@pytest.mark.parametrize("index", [1, 2, -1])
def test_anchored_there_and_back(motion: MotionField, index: int) -> None:
    there = anchored(motion, index)
    torch.testing.assert_close(there.displacement[index], torch.zeros(2, *CELLS), rtol=0, atol=1e-3)
    same(anchored(there, 0), motion, 2e-3)


def test_anchored_has_the_closed_form() -> None:
    same(anchored(moving((0.2, 0.1)), -1), moving_at((0.2, 0.1), 1.0))
    same(anchored(moving((0.2, 0.1)), 1), moving_at((0.2, 0.1), 0.5))


def moving_at(shift: tuple[float, float], share: float) -> MotionField:
    """A steady pan, told from the time at that share of it."""
    pan = moving(shift)
    return pan.replaced(pan.displacement - share * pan.displacement[-1])


@pytest.mark.parametrize(
    ("motion", "back"),
    [
        (moving((0.2, -0.1)), moving((-0.2, 0.1))),
        (moving(zoom=1.5), moving(zoom=1 / 1.5)),
        (moving(degrees=90), moving(degrees=-90)),
    ],
)
def test_backwards_is_the_inverse_motion(motion: MotionField, back: MotionField) -> None:
    same(reversed_in_time(motion), back)
    same(reversed_in_time(reversed_in_time(motion)), motion, 2e-3)
    assert reversed_in_time(motion).confidence[0].min() >= 0


def test_backwards_does_not_trust_what_was_not_in_the_last_frame() -> None:
    trust = reversed_in_time(moving((0.75, 0))).confidence[-1]  # half a frame to the right
    assert trust[:, :14].min() == 1  # still in the last frame
    assert trust[:, 18:].max() == 0


@pytest.mark.parametrize("across", ["left-right", "top-bottom"])
def test_mirrored(across) -> None:
    sign = (-1, 1) if across == "left-right" else (1, -1)
    same(mirrored(moving((0.2, 0.1)), across), moving((0.2 * sign[0], 0.1 * sign[1])), 1e-6)
    same(mirrored(moving(zoom=1.4), across), moving(zoom=1.4), 1e-6)
    same(mirrored(moving(degrees=25), across), moving(degrees=-25), 1e-6)
    twice = mirrored(mirrored(some(0), across), across)
    assert torch.equal(twice.displacement, some(0).displacement)
    assert torch.equal(twice.confidence, some(0).confidence)


def test_rotated() -> None:
    cos, sin = math.cos(math.radians(35)), math.sin(math.radians(35))
    same(rotated(moving((0.2, 0)), 35), moving((0.2 * cos, 0.2 * sin)))
    same(rotated(moving((0.2, 0)), 90), moving((0, 0.2)))
    for motion in MOTIONS[2:5]:  # about the centre, they look the same from everywhere
        same(rotated(motion, 35), motion)
    same(rotated(some(0), 0), some(0), 1e-5)
    same(rotated(some(0), 360), some(0), 1e-3)


@each
def test_rotated_twice_is_rotated_by_the_sum(motion: MotionField) -> None:
    same(rotated(rotated(motion, 30), 60), rotated(motion, 90))


def test_slowed_and_trimmed_goes_half_as_far() -> None:
    pan = moving((0.4, 0.2))
    half = trimmed(slowed(pan, 2), pan.frames)
    assert (half.frames, half.times[-1]) == (pan.frames, pan.frames - 1)
    torch.testing.assert_close(half.displacement[-1], 0.5 * pan.displacement[-1])
    same(trimmed(pan, pan.frames), pan, 1e-6)
    with pytest.raises(FieldError, match="is trimmed to 2 of them at least, or all, not to 1"):
        trimmed(pan, 1)


def test_slowed_takes_longer_for_the_same_motion() -> None:
    pan = moving((0.2, 0))
    slow = slowed(pan, 2)
    assert (slow.frames, slow.times) == (17, (0, 8, 16))
    assert torch.equal(slow.displacement, pan.displacement)
    half = slow.resampled((8.0,), CELLS, 17).displacement  # half as far at the same time
    torch.testing.assert_close(half[0], pan.displacement[-1] / 2)
    same(slowed(slow, 0.5), pan, 0)


@each
def test_smoothed_keeps_affine_motions_in_space(motion: MotionField) -> None:
    same(smoothed(motion, space=0.1, time=0), motion, 1e-5)


def test_smoothed() -> None:
    same(smoothed(moving((0.2, 0.1)), 0.1, 3), moving((0.2, 0.1)), 1e-6)  # steady
    assert torch.equal(smoothed(some(0), 0, 0).displacement, some(0).displacement)
    rough = field(some(0).displacement * torch.tensor([0.0, 1, 1])[:, None, None, None])
    smooth = smoothed(rough, 0.1, 0).displacement
    assert not smooth[0].any()
    assert smooth[1:].std() < 0.3 * rough.displacement[1:].std()


@each
def test_paced_shows_what_the_motion_was_at_another_time(motion: MotionField) -> None:
    slow, fast = paced(motion, 2.0), paced(motion, 0.5)
    assert slow.frames == fast.frames == motion.frames
    last = motion.frames - 1.0
    middle = motion.resampled([last / 2], CELLS, motion.frames).displacement
    torch.testing.assert_close(slow.resampled([last], CELLS, motion.frames).displacement, middle)
    ends = fast.resampled([last / 2, last], CELLS, motion.frames).displacement
    torch.testing.assert_close(ends, motion.displacement[-1:].expand_as(ends))


def test_a_region_goes_along_with_the_content_that_is_in_it() -> None:
    """All content goes right, and so does the region that was the left half."""
    motion = moving((0.25, 0.0))
    gone = -float(motion.displacement[-1, 0, 0, 0])
    assert gone > 0.1
    still = restricted(motion, (0.0, 0.0, 0.5, 1.0))
    along = restricted(motion, (0.0, 0.0, 0.5, 1.0), moving=True)
    torch.testing.assert_close(along.displacement[0], still.displacement[0])
    moved = -along.displacement[-1, 0] > 0.9 * gone
    x, cell = (torch.arange(CELLS[1]) + 0.5) / CELLS[1], 1 / CELLS[1]
    inside = (x > gone + cell) & (x < gone + 0.5 - cell)
    outside = (x < gone - cell) | (x > gone + 0.5 + cell)
    assert moved[:, inside].all() and not moved[:, outside].any()


def test_restricted() -> None:
    box = restricted(some(0), (0, 0, 0.5, 1))
    assert torch.equal(box.displacement[..., :16], some(0).displacement[..., :16])
    assert not box.displacement[..., 16:].any()
    mask = torch.zeros(CELLS, dtype=torch.bool)
    mask[:, :16] = True
    assert torch.equal(restricted(some(0), mask).displacement, box.displacement)
    outside = restricted(some(0), ~mask)
    same(added(box, outside), some(0), 0)
    coarse = torch.tensor([[1.0, 0.0]])
    assert restricted(some(0), coarse).displacement.shape == some(0).displacement.shape


def test_a_box_takes_the_share_of_each_cell_that_is_in_it() -> None:
    """A box from the middle of a cell to the middle of the next has a quarter of each of four."""
    mask = region_mask((1.5 / 8, 0.5 / 4, 2.5 / 8, 1.5 / 4), (4, 8))
    wanted = torch.zeros(4, 8)
    wanted[0:2, 1:3] = 0.25
    torch.testing.assert_close(mask, wanted, rtol=0, atol=1e-6)


DOT = torch.zeros(480, 640)
DOT[200, 200] = 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: anchored(some(0), 3), "has 3 times; there is no index 3"),
        (lambda: slowed(some(0), 0), "a factor above 0, not by 0"),
        (lambda: restricted(some(0), (0.5, 0, 0.5, 1)), "is empty"),
        (lambda: restricted(some(0), (0, 0, 0.001, 0.001)), "a region covers .* nothing would"),
        (lambda: restricted(some(0), DOT), "a region covers .* nothing would move: take a larger"),
        (lambda: scaled(some(0), 1e30), "times the frame's side, and 100 is the most"),
        (lambda: restricted(some(0), torch.ones(3, 2, 2)), r"a mask \(H, W\), not of shape"),
        (lambda: mirrored(some(0), "up"), "left-right or top-bottom, not 'up'"),
        (lambda: scaled(some(0), math.nan), "scaled by a number that is finite, not by nan"),
        (lambda: rotated(some(0), math.inf), "rotated by a number of degrees that is finite"),
        (lambda: slowed(some(0), math.nan), "a factor above 0, not by nan"),
        (lambda: slowed(some(0), 0.999), f"slowed by 0.999, a motion of {FRAMES} frames still"),
        (lambda: smoothed(some(0), math.nan), "smoothed over 0 or more"),
        (lambda: anchored(some(0), -4), "there is no index -4"),
        (lambda: restricted(some(0), torch.full((4, 4), 1.5)), "a mask goes from 0, .* beyond"),
        (
            lambda: restricted(some(0), torch.full((4, 4), math.nan)),
            "a mask goes from 0, .* beyond",
        ),
        (lambda: restricted(some(0), (0, 0, 32, 24)), r"from 0 to 1, not \(0, 0, 32, 24\)"),
        (lambda: restricted(some(0), (0, 0, 1)), r"\(left, top, right, bottom\) in shares"),
    ],
)
def test_mistakes_are_one_sentence(wrong, sentence: str) -> None:
    with pytest.raises(FieldError, match=sentence):
        wrong()


def test_the_closed_forms_are_what_they_say() -> None:
    assert moving().frames == FRAMES
    pan = moving((0.3, 0)).displacement[-1]
    torch.testing.assert_close(pan[0], torch.full(CELLS, -0.3 / ASPECT))
