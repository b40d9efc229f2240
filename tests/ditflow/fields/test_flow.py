"""Flow between two frames: the measured shift is the made one, at any size."""

import pytest
import torch

from datamodules.synthetic import World
from ditflow.core.sizes import VideoSize
from ditflow.fields.flow import DOUBLED, optical_flow


@pytest.mark.parametrize("side", [64, DOUBLED])  # measured at twice its size, and as it is
def test_a_shift_is_measured(side: int) -> None:
    texture = World(VideoSize(1, side + 32, side + 32)).clip(0, "pan").frames[0]
    first, second = texture[:, 16:-16, 16:-16], texture[:, 14:-18, 13:-19]  # moves by (3, 2)
    flow = optical_flow(first, second)
    assert flow.shape == (2, side, side)
    inner = flow[:, 8:-8, 8:-8].flatten(1)  # what enters at the border is not known
    torch.testing.assert_close(inner.median(1).values, torch.tensor([3.0, 2.0]), rtol=0, atol=0.2)


def test_frames_that_are_the_same_do_not_move() -> None:
    frame = World().clip(1).frames[0]
    assert optical_flow(frame, frame).abs().max() < 0.05
