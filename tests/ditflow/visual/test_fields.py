"""Motion fields on pictures: which way arrows point, and where paths go."""

# F times, H W rows and columns of cells, N points; displacements and places are (x, y)
from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ditflow.fields.field import FieldSource, MotionField, cell_places
from ditflow.visual.fields import (
    arrows_on,
    confidence_colours,
    followed_share,
    movement,
    paths,
    paths_on,
    points_on_grid,
    reach_of,
)

CELLS = (24, 32)


def field_from(origins: list[Tensor], confidence: Tensor | None = None) -> MotionField:
    """A field with, per time, where the content of each cell was: (2, H, W) in shares."""
    displacement = torch.stack([origin - cell_places(*CELLS) for origin in origins])
    trust = torch.ones(len(origins), *CELLS) if confidence is None else confidence
    times = tuple(map(float, range(len(origins))))
    return MotionField(displacement, trust, times, len(times), 2.0, FieldSource("exact"))


def pan(way: tuple[float, float], frames: int = 5) -> MotionField:
    """Content that moves by `way`, in shares of the frame, from the first frame to the last."""
    step = torch.tensor(way)[:, None, None] / (frames - 1)
    return field_from([cell_places(*CELLS) - step * frame for frame in range(frames)])


def turned(angle: float) -> Tensor:
    """Where the content of each cell was before it turned about the centre, in shares."""
    x, y = cell_places(*CELLS) - 0.5
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.stack([cos * x + sin * y, cos * y - sin * x]) + 0.5


def test_movement_is_against_the_displacement_in_heights():
    moved = movement(pan((0.1, 0.2)))
    # the frame is twice as wide as high, so a tenth of its width is a fifth of its height
    expected = torch.tensor([0.2, 0.2])[:, None, None].expand(2, *CELLS)
    torch.testing.assert_close(moved[-1], expected, rtol=0, atol=1e-6)
    assert not moved[0].any()


def test_reach_is_the_longest_trusted_movement():
    field = pan((0.1, 0.0))
    assert reach_of(field) == pytest.approx(0.2, abs=1e-6)
    wild = field.displacement.clone()
    wild[-1, :, :4] = 3.0
    doubted = field.confidence.clone()
    doubted[-1, :4] = 0.0
    assert reach_of(field.replaced(wild, doubted)) == pytest.approx(0.2, abs=1e-6)


def test_share_counts_what_was_followed():
    field = pan((0.1, 0.0), frames=2)
    half = field.confidence.clone()
    half[1, : CELLS[0] // 2] = 0.2
    assert followed_share(field) == 1
    assert followed_share(field.replaced(field.displacement, half)) == 0.75


def test_points_are_spread_evenly():
    points = points_on_grid(pan((0, 0)), across=8)
    assert len(points) == 8 * 4  # square steps in a frame twice as wide as high
    torch.testing.assert_close(points.mean(0), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("way", [(0.1, 0.0), (-0.05, 0.15), (0.0, 0.0)])
def test_paths_follow_a_translation(way):
    points = torch.tensor([[0.3, 0.4], [0.6, 0.55]])
    places, seen = paths(pan(way), points)
    steps = torch.linspace(0, 1, 5)[:, None, None] * torch.tensor(way)
    # float32, and a map that is linear between cells: Newton's method is exact
    torch.testing.assert_close(places, points + steps, rtol=0, atol=1e-5)
    assert seen.all()


@pytest.mark.parametrize(
    "origins",
    [
        [turned(math.pi / 2 * frame / 6) for frame in range(7)],
        [(cell_places(*CELLS) - 0.5) * 2 ** (frame / 6) + 0.5 for frame in range(7)],
        [(cell_places(*CELLS) - 0.5) / 2 ** (frame / 6) + 0.5 for frame in range(7)],
    ],
    ids=["quarter turn", "half as large", "twice as large"],
)
def test_paths_invert_the_field(origins):
    points = 0.5 + torch.tensor([[0.1, 0.0], [-0.1, 0.15], [0.0, -0.2]])
    field = field_from(origins)
    places, seen = paths(field, points)
    look = (places * 2 - 1)[:, None]
    sampled = torch.nn.functional.grid_sample(
        field.displacement, look, padding_mode="border", align_corners=False
    )[:, :, 0].mT
    torch.testing.assert_close(
        places + sampled, points.expand_as(places), rtol=0, atol=1e-5
    )  # where a path is, the content comes from its start: float32
    assert seen.all()


def test_a_path_ends_where_its_point_leaves_or_is_lost():
    points = torch.tensor([[0.9, 0.5], [0.3, 0.25], [0.3, 0.75]])
    field = pan((0.2, 0.0))
    doubted = field.confidence.clone()
    doubted[2, : CELLS[0] // 2] = 0.0  # the upper half, at the third time only
    _, seen = paths(field.replaced(field.displacement, doubted), points)
    assert seen[:, 0].tolist() == [True, True, True, False, False]
    assert seen[:, 1].tolist() == [True, True, False, False, False]
    assert seen[:, 2].all()


@pytest.mark.parametrize(
    ("way", "axis", "sign"),
    [((1, 0), 1, 1), ((-1, 0), 1, -1), ((0, 1), 0, 1), ((0, -1), 0, -1)],
    ids=["right", "left", "down", "up"],
)
def test_arrows_point_the_way_of_the_movement(way, axis, sign):
    """The head is wider than the shaft, so an arrow has more white on the side of its tip."""
    moved = torch.tensor(way).float()[:, None, None].expand(2, 4, 4)
    grey = torch.full((3, 96, 96), 100, dtype=torch.uint8)
    drawn = arrows_on(grey, moved, torch.ones(4, 4), 1.0, across=1)
    white = (drawn > 200).all(0).nonzero().float()
    middle = white.mean(0) - 47.5
    assert sign * middle[axis] > 2
    assert abs(middle[1 - axis]) < 0.5


def test_what_was_filled_in_has_no_white_arrow():
    moved = torch.ones(2, 4, 4)
    grey = torch.full((3, 96, 96), 100, dtype=torch.uint8)
    assert not (arrows_on(grey, moved, torch.zeros(4, 4), 1.0, across=3) > 200).any()
    assert not (grey != 100).any(), "the picture that is drawn on stays as it was"


def test_the_dot_is_at_the_end_of_the_path():
    grey = torch.full((3, 100, 200), 90, dtype=torch.uint8)
    places = torch.tensor([[[0.2, 0.5]], [[0.5, 0.5]], [[0.8, 0.5]]])
    drawn = paths_on(grey, places, torch.ones(3, 1, dtype=torch.bool))
    changed = (drawn != grey).any(0)
    assert changed[50, 40:160].all()
    heights = changed.sum(0)
    assert heights[160] > heights[100] > 0
    lost = paths_on(grey, places, torch.tensor([[True], [True], [False]]))
    assert not (lost != grey).any(0)[:, 115:].any(), "a path ends where its point is lost"


def test_confidence_is_brighter_the_surer():
    brightness = confidence_colours(torch.linspace(0, 1, 5)[None]).float().sum(0)[0]
    assert (brightness.diff() > 0).all()
