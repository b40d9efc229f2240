"""Trajectory metrics: the Fréchet distance by its definition, cases by hand, and occlusion."""

from __future__ import annotations

import math
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from ditflow.metrics import MetricError, frechet_trajectory_distance, hybrid_motion_fidelity
from ditflow.metrics.trajectories import frechet_distance, hybrid_motion_fidelity_code
from tests.ditflow.metrics import paths
from tests.ditflow.metrics.paths import tracks

wandering = partial(paths.wandering, points=4, frames=7, speed=5)


def definition(a: Tensor, b: Tensor) -> float:
    """Eiter and Mannila's recursion, word for word."""

    @cache
    def leash(i: int, j: int) -> float:
        here = float((a[i] - b[j]).norm())
        before = [
            leash(*pair) for pair in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if min(pair) >= 0
        ]
        return max(here, min(before)) if before else here

    return leash(len(a) - 1, len(b) - 1)


def test_frechet_distance_is_its_definition() -> None:
    a, b = wandering(0).transpose(0, 1), wandering(1, frames=5).transpose(0, 1)
    expected = torch.tensor([definition(*pair) for pair in zip(a, b, strict=True)])
    for pair in ((a, b), (b, a), (a.flip(1), b.flip(1))):  # float32 distances of up to 100
        torch.testing.assert_close(frechet_distance(*pair), expected, rtol=0, atol=1e-4)


def test_frechet_distance_does_not_mind_waiting_but_minds_the_way() -> None:
    path = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]]])
    assert frechet_distance(path, path[:, [0, 0, 1, 1, 1, 2]]) == 0
    # the corner is 3 from one end and 4 from the other
    assert frechet_distance(path, path[:, [0, 2]]) == pytest.approx(3)
    assert frechet_distance(path, path.flip(1)) == pytest.approx(5)


def test_trajectory_distance() -> None:
    video = wandering(0)
    assert frechet_trajectory_distance(tracks(video), tracks(video)) == 0
    one_of_four = torch.zeros(4, 2)  # the root of the mean square halves its distance
    one_of_four[0, 0] = 40.0
    # a tenth of the width, a fifth of the height, a fifth of the width for one point
    for shift, distance in (
        (torch.tensor([20.0, 0.0]), 0.1),
        (torch.tensor([0.0, 20.0]), 0.2),
        (one_of_four, 0.2 / 2),
    ):
        found = frechet_trajectory_distance(tracks(video), tracks(video + shift))
        assert found == pytest.approx(distance)


def test_a_point_that_is_lost_for_good_is_left_out_and_others_are_not() -> None:
    """There are more frames than points, so exchanging the axes would leave out something else."""
    a, b = wandering(0), wandering(1)
    seen = torch.ones(7, 4, dtype=torch.bool)
    seen[3:, 1] = False
    rest = [0, 2, 3]
    expected = frechet_trajectory_distance(tracks(a[:, rest]), tracks(b[:, rest]))
    wild = b.clone()
    wild[3:, 1] = 1e6
    assert frechet_trajectory_distance(tracks(a), tracks(wild, seen)) == pytest.approx(expected)
    assert frechet_trajectory_distance(tracks(a, seen), tracks(b)) == pytest.approx(expected)
    assert hybrid_motion_fidelity(tracks(a), tracks(wild, seen)) == pytest.approx(
        hybrid_motion_fidelity(tracks(a[:, rest]), tracks(b[:, rest]))
    )


def test_a_point_out_of_sight_goes_with_the_nearest_in_sight() -> None:
    a = (
        torch.tensor([[0.0, 0.0], [50.0, 0.0]])
        + torch.tensor([10.0, 0.0]) * torch.arange(4)[:, None, None]
    )  # (T, n, 2): both go right
    seen = torch.ones(4, 2, dtype=torch.bool)
    seen[1, 0] = False
    hidden = a.clone()
    hidden[1, 0] = -999.0
    followed = a.clone()
    followed[1, 0] = a[1, 1]
    assert (
        frechet_trajectory_distance(tracks(a), tracks(hidden, seen))
        == frechet_trajectory_distance(tracks(a), tracks(followed))
        > 0
    )


def test_hybrid_motion_fidelity() -> None:
    video = wandering(0)
    assert hybrid_motion_fidelity(tracks(video), tracks(video)) == pytest.approx(1)
    moved = tracks(video + torch.tensor([20.0, 0.0]))
    assert hybrid_motion_fidelity(tracks(video), moved) == pytest.approx((math.exp(-0.1) + 1) / 2)
    still = tracks(torch.full((5, 3, 2), 30.0))
    assert hybrid_motion_fidelity(still, still) == 1


def test_hybrid_motion_fidelity_of_opposite_pans() -> None:
    """From 40 to 80 of 200 pixels, and back.

    The walkers start a fifth of the width apart, no way is better, and every step is opposite.
    """
    pan = torch.tensor([1.0, 0.0]) * torch.arange(40.0, 81.0, 10.0)[:, None, None]
    assert hybrid_motion_fidelity(tracks(pan), tracks(pan.flip(0))) == pytest.approx(
        (math.exp(-0.2) - 1) / 2
    )


def test_code_of_hybrid_motion_fidelity() -> None:
    """It does not give 1 for the same path.

    Two positions half a width apart have distances 0, .5, .5 and 0, whose mean is .25.
    """
    path = tracks(torch.tensor([[[50.0, 25.0]], [[150.0, 25.0]]]))
    assert hybrid_motion_fidelity(path, path, code=True) == pytest.approx((1 + 1 / 1.25) / 2)
    assert hybrid_motion_fidelity(path, path) == 1


def test_code_of_hybrid_motion_fidelity_counts_the_start_as_a_step() -> None:
    """The same step from the middle of the right and of the left edge.

    The cosines are those of the starts (.9, .5) and (.1, .5), and of the steps (0, 1) and (0, 1).
    """
    a, b = (tracks(torch.tensor([[[x, 50.0]], [[x, 60.0]]])) for x in (180.0, 20.0))
    start = (0.9 * 0.1 + 0.25) / math.hypot(0.9, 0.5) / math.hypot(0.1, 0.5)
    far, near = math.hypot(0.8, 0.1), 0.8
    assert hybrid_motion_fidelity(a, b, code=True) == pytest.approx(
        ((start + 1) / 2 + 1 / (1 + (far + near) / 2)) / 2
    )


def test_code_is_nan_where_a_point_stands_still_unless_that_is_skipped() -> None:
    still = tracks(torch.full((4, 2, 2), 30.0))
    assert math.isnan(hybrid_motion_fidelity(still, still, code=True))
    # of four "steps" the start alone has a direction
    skipped = hybrid_motion_fidelity_code(still, still, skip=True)
    assert skipped == pytest.approx((1 / 4 + 1) / 2)


def test_bad_input() -> None:
    said = "there are 4 of the reference and 3 of the generated video"
    with pytest.raises(MetricError, match=said):
        frechet_trajectory_distance(tracks(wandering(0)), tracks(wandering(0, points=3)))
    gone = torch.ones(7, 4, dtype=torch.bool)
    gone[4:] = False
    said = "none of the 4 points is in sight at the end of both videos"
    with pytest.raises(MetricError, match=said):
        hybrid_motion_fidelity(tracks(wandering(0), gone), tracks(wandering(1)))
    with pytest.raises(MetricError, match="the reference has 7 frames"):
        frechet_trajectory_distance(tracks(wandering(0)), tracks(wandering(0, frames=6)))
