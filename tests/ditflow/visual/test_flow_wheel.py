"""Displacement as colour: known directions, lengths and invariances."""

from __future__ import annotations

import math

import pytest
import torch

from ditflow.visual import distance_colours, distance_scale, flow_colours, wheel


def colour(dx: float, dy: float, reach: float = 1.0) -> list[int]:
    return flow_colours(torch.tensor([dx, dy]).reshape(2, 1, 1), reach).flatten().tolist()


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ((1, 0), [255, 0, 0]),
        ((-1, 0), [0, 255, 255]),
        ((0, 1), [128, 255, 0]),
        ((0, -1), [128, 0, 255]),
    ],
    ids=["right", "left", "down", "up"],
)
def test_directions(direction, expected):
    torch.testing.assert_close(
        torch.tensor(colour(*direction)), torch.tensor(expected), rtol=0, atol=1
    )


def test_no_displacement_is_white_and_saturation_is_length():
    assert colour(0, 0) == [255, 255, 255]
    assert colour(0.5, 0) == [255, 128, 128]
    assert colour(7, 0) == colour(1, 0)
    assert colour(3, 4, reach=10) == colour(0.3, 0.4, reach=1)


def test_opposite_directions_have_complementary_colours():
    angles = torch.linspace(0, 2 * math.pi, 61)
    flow = torch.stack([angles.cos(), angles.sin()])[:, None]  # (2, 1, 61)
    total = flow_colours(flow, 1.0).int() + flow_colours(-flow, 1.0).int()
    torch.testing.assert_close(
        total, torch.full_like(total, 255), rtol=0, atol=1
    )  # each side is rounded to one of 256 levels


def test_leading_dimensions_are_kept():
    flow = torch.randn(2, 3, 2, 4, 5)
    colours = flow_colours(flow, 2.0)
    assert colours.shape == (2, 3, 3, 4, 5) and colours.dtype == torch.uint8
    torch.testing.assert_close(colours[1, 2], flow_colours(flow[1, 2], 2.0))


@pytest.mark.parametrize("reach", [0.0, -1.0, math.nan])
def test_reach_must_be_positive(reach):
    with pytest.raises(ValueError, match="must be positive"):
        flow_colours(torch.zeros(2, 1, 1), reach)


def test_distance_is_white_where_fields_agree_and_dark_red_at_the_reach():
    flow = torch.randn(4, 2, 3, 5)
    assert (distance_colours(flow, flow, 1.0) == 255).all()
    apart = torch.zeros(2, 1, 3)
    apart[0] = torch.tensor([3.0, 30.0, 1.0])
    colours = distance_colours(apart, torch.zeros_like(apart), 3.0)
    assert colours.shape == (3, 1, 3) and colours[:, 0].T.tolist() == [
        [90, 0, 20],
        [90, 0, 20],
        [253, 174, 97],
    ]


def test_distance_is_of_the_difference_alone():
    flow, reference, common = (torch.randn(2, 4, 4) for _ in range(3))
    torch.testing.assert_close(
        distance_colours(flow, reference, 2.0),
        distance_colours(flow + common, reference + common, 2.0),
        rtol=0,
        atol=1,
    )  # rounded
    turned = distance_colours(
        -flow.flip(0), -reference.flip(0), 2.0
    )  # lengths do not change when both fields are mirrored
    torch.testing.assert_close(turned, distance_colours(flow, reference, 2.0), rtol=0, atol=1)


def test_more_distance_is_never_lighter():
    scale = distance_scale(64, 2).int()
    assert scale.shape == (3, 2, 64) and (scale.sum(0).diff(dim=-1) <= 0).all()


def test_wheel_is_a_disc_of_the_same_colours():
    legend = wheel(31)
    assert legend.shape == (4, 31, 31)
    assert legend[3, 0, 0] == 0 and legend[3, 15, 15] == 255
    assert legend[:3, 15, 30].tolist() == colour(1, 0) and legend[:3, 15, 15].tolist() == [
        255,
        255,
        255,
    ]
