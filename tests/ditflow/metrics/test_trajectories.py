"""Metrics of paths: the Fréchet distance against its definition, hand-computed cases, occlusion
along the right axis.
"""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from ditflow.metrics import MetricError, Tracks, frechet_trajectory_distance, hybrid_motion_fidelity
from ditflow.metrics.trajectories import frechet_distance, hybrid_motion_fidelity_code

SIZE = (100, 200)


def tracks(positions: Tensor, seen: Tensor | None = None) -> Tracks:
    return Tracks(
        positions, torch.ones(positions.shape[:2], dtype=torch.bool) if seen is None else seen, SIZE
    )


def wandering(seed: int, points: int = 4, frames: int = 7) -> Tensor:
    return (
        torch.randn(frames, points, 2, generator=torch.Generator().manual_seed(seed)).cumsum(0) * 5
        + 60
    )


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
    torch.testing.assert_close(
        frechet_distance(a, b), expected, rtol=0, atol=1e-4
    )  # float32 distances of values up to 100
    torch.testing.assert_close(frechet_distance(b, a), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(frechet_distance(a.flip(1), b.flip(1)), expected, rtol=0, atol=1e-4)


def test_frechet_distance_does_not_mind_waiting_but_minds_the_way() -> None:
    path = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]]])
    assert frechet_distance(path, path[:, [0, 0, 1, 1, 1, 2]]) == 0
    assert frechet_distance(path, path[:, [0, 2]]) == pytest.approx(
        3
    )  # the corner is 3 from one end and 4 from the other
    assert frechet_distance(path, path.flip(1)) == pytest.approx(5)


def test_trajectory_distance() -> None:
    video = wandering(0)
    assert frechet_trajectory_distance(tracks(video), tracks(video)) == 0
    assert frechet_trajectory_distance(
        tracks(video), tracks(video + torch.tensor([20.0, 0.0]))
    ) == pytest.approx(0.1)  # a tenth of the width
    assert frechet_trajectory_distance(
        tracks(video), tracks(video + torch.tensor([0.0, 20.0]))
    ) == pytest.approx(0.2)  # a fifth of the height
    shifts = torch.zeros(4, 2).index_fill(0, torch.tensor([0]), 0.0)
    shifts[0, 0] = 40.0  # one of four points: the root of the mean square
    assert frechet_trajectory_distance(tracks(video), tracks(video + shifts)) == pytest.approx(
        0.2 / 2
    )


def test_a_point_that_is_lost_for_good_is_left_out_and_others_are_not() -> None:
    """More frames than points: exchanging the two axes, as the published code does, would drop
    something else.
    """
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
    """From 40 to 80 of 200 pixels and back: the walkers start a fifth of the width apart, and no
    way is better; every step is opposite.
    """
    pan = torch.tensor([1.0, 0.0]) * torch.arange(40.0, 81.0, 10.0)[:, None, None]
    assert hybrid_motion_fidelity(tracks(pan), tracks(pan.flip(0))) == pytest.approx(
        (math.exp(-0.2) - 1) / 2
    )


def test_code_of_hybrid_motion_fidelity() -> None:
    """One path of two positions half a width apart: all distances are 0, .5, .5, 0, their mean .25,
    so (1 + 1 / 1.25) / 2, though it is the same path.
    """
    path = tracks(torch.tensor([[[50.0, 25.0]], [[150.0, 25.0]]]))
    assert hybrid_motion_fidelity(path, path, code=True) == pytest.approx((1 + 1 / 1.25) / 2)
    assert hybrid_motion_fidelity(path, path) == 1


def test_code_of_hybrid_motion_fidelity_counts_the_start_as_a_step() -> None:
    """The same step from the right and from the left edge's middle: cosines of the starts (.9, .5),
    (.1, .5) and of the steps (0, 1), (0, 1).
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
    assert hybrid_motion_fidelity_code(still, still, skip=True) == pytest.approx(
        (1 / 4 + 1) / 2
    )  # of four "steps" the start alone has a direction


def test_bad_input() -> None:
    with pytest.raises(
        MetricError, match="there are 4 of the reference and 3 of the generated video"
    ):
        frechet_trajectory_distance(tracks(wandering(0)), tracks(wandering(0, points=3)))
    gone = torch.ones(7, 4, dtype=torch.bool)
    gone[4:] = False
    with pytest.raises(
        MetricError, match="none of the 4 points is in sight at the end of both videos"
    ):
        hybrid_motion_fidelity(tracks(wandering(0), gone), tracks(wandering(1)))
    with pytest.raises(MetricError, match="the reference has 7 frames"):
        frechet_trajectory_distance(tracks(wandering(0)), tracks(wandering(0, frames=6)))
