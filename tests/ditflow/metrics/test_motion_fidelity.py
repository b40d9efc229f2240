"""Motion fidelity: identities, invariances, cases by hand, and numbers of the published code."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from ditflow.metrics import MetricError, Tracks, motion_fidelity
from tests.ditflow.metrics import paths
from tests.ditflow.metrics.paths import SIZE, straight, tracks

wandering = partial(paths.wandering, points=30, frames=12, speed=3)


@pytest.mark.parametrize("speed", [False, True])
def test_a_video_against_itself_is_1(speed: bool) -> None:
    seen = torch.rand(12, 30, generator=torch.Generator().manual_seed(1)) < 0.8
    # two points stand still, and a fifth of all positions is not seen
    video = tracks(wandering(0).index_fill(1, torch.tensor([3, 4]), 7.0), seen)
    assert motion_fidelity(video, video, speed=speed) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("speed", [False, True])
def test_invariances(speed: bool) -> None:
    a, b = wandering(0), wandering(1, points=20)
    expected = motion_fidelity(tracks(a), tracks(b), speed=speed)
    assert 0 < expected < 0.9
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    same = {
        "the two videos exchanged": motion_fidelity(tracks(b), tracks(a), speed=speed),
        "points in another order": motion_fidelity(
            tracks(a[:, torch.randperm(30)]), tracks(b), speed=speed
        ),
        "points that start elsewhere": motion_fidelity(
            tracks(a + torch.rand(30, 2) * 50), tracks(b), speed=speed
        ),
        "both played backwards": motion_fidelity(tracks(a.flip(0)), tracks(b.flip(0)), speed=speed),
        "both turned": motion_fidelity(tracks(a @ quarter), tracks(b @ quarter), speed=speed),
        "both enlarged": motion_fidelity(
            *(Tracks(3 * p, torch.ones(p.shape[:2]).bool(), (300, 600)) for p in (a, b)),
            speed=speed,
        ),
    }
    for case, value in same.items():  # float32 sums of positions up to 600
        assert value == pytest.approx(expected, abs=1e-5), case
    square = Tracks(a, torch.ones(12, 30).bool(), (100, 100))
    assert motion_fidelity(square, square, speed=speed) == pytest.approx(1)


def test_speed_counts_only_when_asked_for() -> None:
    slow, fast = tracks(straight((2.0, 0.0))), tracks(straight((8.0, 0.0)))
    assert motion_fidelity(slow, fast) == pytest.approx(1)
    assert motion_fidelity(slow, fast, speed=True) == pytest.approx(0.25)


@pytest.mark.parametrize("speed", [False, True])
def test_a_pan_played_backwards_is_the_opposite(speed: bool) -> None:
    pan = straight((3.0, 0.0), (3.0, 0.0))
    assert motion_fidelity(tracks(pan), tracks(pan.flip(0)), speed=speed) == pytest.approx(-1)


def test_both_directions_count() -> None:
    """Of the reference's right and up, right is matched (1) and up is not (0).

    The generated right is matched (1), which gives (1/2 + 1) / 2.
    """
    reference, generated = tracks(straight((4.0, 0.0), (0.0, -4.0))), tracks(straight((4.0, 0.0)))
    assert motion_fidelity(reference, generated) == pytest.approx(0.75)
    half = tracks(straight((2.0, 0.0)))
    assert motion_fidelity(reference, half, speed=True) == pytest.approx((0.25 + 0.5) / 2)


def test_standing_still() -> None:
    still, moving = tracks(straight((0.0, 0.0))), tracks(straight((5.0, 0.0)))
    for speed in (False, True):
        assert motion_fidelity(still, still, speed=speed) == 1
        assert motion_fidelity(still, moving, speed=speed) == 0
    # less than a two-thousandth of the diagonal
    jitter = tracks(straight((0.0, 0.0)) + 0.02 * torch.rand(5, 1, 2))
    assert motion_fidelity(still, jitter) == 1


def test_half_of_the_steps_stand_still() -> None:
    """Right twice and then nothing, against right throughout: 1 + 1 + 0 + 0 of 4, both ways."""
    stops = torch.tensor([0.0, 4.0, 8.0, 8.0, 8.0])[:, None, None] * torch.tensor([1.0, 0.0])
    assert motion_fidelity(tracks(stops), tracks(straight((4.0, 0.0)))) == pytest.approx(0.5)


def test_lost_tracks() -> None:
    """Seen in 3 of 5 frames: it matches 2 of the reference's 4 steps, and both of its own."""
    path = straight((4.0, 0.0))
    lost = torch.tensor([True, True, True, False, False])[:, None]
    wild = path.clone()
    wild[3:] = 1e4
    assert motion_fidelity(tracks(path), tracks(wild, lost)) == pytest.approx((0.5 + 1) / 2)


def test_a_short_lucky_match_does_not_hide_a_long_mismatch() -> None:
    """A point seen for one step does not match a whole track, which would make anything alike."""
    down, right = straight((0.0, 4.0), frames=9), straight((4.0, 0.0), frames=9)
    brief = torch.zeros(9, 1, dtype=torch.bool)
    brief[:2] = True
    seen = torch.cat([brief, torch.ones(9, 1).bool()], 1)
    generated = tracks(torch.cat([down, right], 1), seen)
    assert motion_fidelity(tracks(down), generated) == pytest.approx((1 / 8 + 1 / 9) / 2)


def test_published_score_of_a_video_with_itself_is_not_1() -> None:
    walks = torch.randn(24, 400, 2, generator=torch.Generator().manual_seed(0)).cumsum(0)
    assert motion_fidelity(tracks(walks), tracks(walks)) == pytest.approx(1)
    assert motion_fidelity(tracks(walks), tracks(walks), published=True) < 0.6


def test_published_score_of_pans() -> None:
    pan = straight(*[(3.0, 1.0)] * 50, frames=24)
    noise = 0.05 * torch.randn(24, 50, 2, generator=torch.Generator().manual_seed(0))
    assert motion_fidelity(tracks(pan), tracks(pan), published=True) > 0.999
    opposite = tracks(pan + noise), tracks(pan.flip(0) + noise)
    for published in (True, False):
        score = motion_fidelity(*opposite, published=published)
        assert score == pytest.approx(-0.995, abs=0.01)


def test_floor_of_the_published_score() -> None:
    """3025 random walks of 24 frames against others: .508, measured on the published code."""
    a, b = (
        torch.randn(24, 3025, 2, generator=torch.Generator().manual_seed(seed)).cumsum(0)
        for seed in (0, 1)
    )
    assert motion_fidelity(tracks(a), tracks(b), published=True) == pytest.approx(0.508, abs=0.01)


def test_published_score_is_nan_where_a_point_stands_still() -> None:
    moving = wandering(0)
    frozen = moving.clone()
    frozen[4, 7] = frozen[3, 7]
    assert math.isnan(motion_fidelity(tracks(frozen), tracks(moving), published=True))
    assert math.isfinite(motion_fidelity(tracks(frozen), tracks(moving)))


def test_bad_input() -> None:
    long, short = tracks(straight((1.0, 0.0))), tracks(straight((1.0, 0.0), frames=3))
    said = (
        "the reference has 5 frames of 100x200 pixels "
        "and the generated video 3 frames of 100x200 pixels"
    )
    with pytest.raises(MetricError, match=said):
        motion_fidelity(long, short)
    with pytest.raises(MetricError, match="generated video 5 frames of 50x50 pixels"):
        motion_fidelity(long, Tracks(long.positions, long.seen, (50, 50)))
    single = tracks(straight((1.0, 0.0), frames=1))
    for published in (False, True):
        with pytest.raises(MetricError, match="a video of one frame has no motion"):
            motion_fidelity(single, single, published=published)
    blind = Tracks(long.positions, torch.zeros_like(long.seen), SIZE)
    said = r"no point of the generated video can be followed .* \(1 were tried\)"
    with pytest.raises(MetricError, match=said):
        motion_fidelity(long, blind)
    with pytest.raises(MetricError, match="as many tracks of both videos, not 1 and 30"):
        motion_fidelity(long, tracks(wandering(0, frames=5)), published=True)
