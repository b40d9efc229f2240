"""Paths of pixels, chained: exact where the flow is, and distrusted where they end."""

import pytest
import torch
from torch import Tensor

from datamodules.synthetic import MOTIONS, World
from ditflow.fields.field import FieldSource, MotionField
from ditflow.fields.flow import optical_flow
from ditflow.fields.following import Flow, agreement, cells_of, chained, measured_times, steps
from tests.ditflow.fields.exact import end_point_error

WORLD = World()
TIMES = list(range(0, 25, 2))


def followed(frames: Tensor, times: list[int], flow: Flow = optical_flow) -> MotionField:
    return chained(frames, times, steps(frames, times, flow), FieldSource("exact"))


# about twice the means of 3 seeds; without filling, zoom has .21, rotation .29 and orbit .43
@pytest.mark.parametrize(
    ("motion", "most"),
    list(zip(MOTIONS, [0.05, 0.05, 0.18, 0.26, 0.25, 0.3, 0.2], strict=True)),
)
def test_the_field_is_the_exact_motion(motion: str, most: float) -> None:
    clips = [WORLD.clip(seed, motion) for seed in (3, 11, 27)]
    errors = [end_point_error(clip, followed(clip.frames, TIMES)).mean() for clip in clips]
    assert torch.stack(errors).mean() < most


def test_an_exact_flow_gives_an_exact_field() -> None:
    def flow(first: Tensor, second: Tensor) -> Tensor:
        moved = float(second[0, 0, 0]) - float(first[0, 0, 0])  # a frame's colour is its time
        return torch.tensor([1.5, -0.5])[:, None, None].expand(2, 32, 48) * moved

    frames = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 32, 48)
    field = followed(frames, [0, 2, 4], flow)
    wanted = torch.tensor([-1.5 / 48, 0.5 / 32])
    for time, moved in zip(field.times, field.displacement, strict=True):
        expected = (wanted * time)[:, None, None].expand_as(moved)
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)
    assert field.aspect == 1.5
    assert field.frames == 5


def test_opposite_flows_agree_and_others_do_not() -> None:
    flow = torch.full((2, 32, 32), 2.0) / 32
    scale = torch.full((2, 1, 1), 1 / 32)
    trust = agreement(flow, -flow, scale)
    inside = torch.ones(32, 32, dtype=torch.bool)
    inside[-2:], inside[:, -2:] = False, False
    assert (trust[inside] > 0.99).all()
    assert (trust[~inside] == 0).all()  # these paths leave the frame
    assert (agreement(flow, flow, scale) < 0.01).all()


def test_times_begin_and_end_with_the_video() -> None:
    assert measured_times(2) == [0, 1]
    assert measured_times(5) == [0, 2, 4]
    assert measured_times(6) == [0, 2, 4, 5]


def test_cells_are_few_in_any_video() -> None:
    assert cells_of(64, 64) == (16, 16)
    assert cells_of(480, 832) == (37, 64)
    assert cells_of(2, 2) == (1, 1)
