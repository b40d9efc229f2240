"""Positions that follow a motion: a token is told the place of its content in the first frame."""

import pytest
import torch
from torch import Tensor

from ditflow.core.sizes import Compression, VideoSize
from ditflow.fields.positions import displaced, on_tokens
from tests.ditflow.fields.analytic import moving

FRAMES, ROWS, COLUMNS = 3, 4, 5


def stock(rows: int = ROWS, columns: int = COLUMNS, step: float = 1.0, first: float = 0) -> Tensor:
    """A model's own positions (N, 3), `step` from a token to the next."""
    axes = (torch.arange(count) * step + first for count in (FRAMES, rows, columns))
    return torch.cartesian_prod(*axes)


def moved(dx: float, dy: float, rows: int = ROWS, columns: int = COLUMNS) -> Tensor:
    """The same displacement everywhere, in tokens."""
    shares = torch.tensor([dx / columns, dy / rows])
    return shares[:, None, None].expand(FRAMES, 2, rows, columns)


def test_no_motion_and_no_amount_are_the_models_own() -> None:
    assert torch.equal(displaced(stock(), moved(0, 0)), stock())
    assert torch.equal(displaced(stock(), torch.randn(FRAMES, 2, ROWS, COLUMNS), 0), stock())


@pytest.mark.parametrize(("step", "first"), [(1.0, 0.0), (0.5, 3.0), (-2.0, 1.0)])
def test_a_token_has_the_place_that_it_points_to(step: float, first: float) -> None:
    own = stock(step=step, first=first).view(FRAMES, ROWS, COLUMNS, 3)
    places = displaced(own.flatten(0, 2), moved(-1, 2)).view_as(own)
    torch.testing.assert_close(places[:, :-2, 1:], own[:, 2:, :-1])
    assert torch.equal(places[..., 0], own[..., 0])  # time stays


def test_it_is_linear_in_the_amount_and_goes_by_batches() -> None:
    motion = torch.randn(2, FRAMES, 2, ROWS, COLUMNS)
    places = displaced(stock(), motion, 0.5)
    assert places.shape == (2, FRAMES * ROWS * COLUMNS, 3)
    torch.testing.assert_close(places - stock(), (displaced(stock(), motion) - stock()) / 2)
    for one, alone in zip(places, motion, strict=True):
        assert torch.equal(one, displaced(stock(), alone, 0.5))


def test_one_row_of_tokens_is_a_frame_high() -> None:
    places = displaced(stock(rows=1), moved(0, 0.5, rows=1))
    torch.testing.assert_close(places[:, 1], torch.full((FRAMES * COLUMNS,), 0.5))


def test_fields_come_to_the_tokens_of_a_video() -> None:
    compression, size = Compression(), VideoSize(9, 64, 96)
    motion = on_tokens([moving((0.3, 0.1)), moving()], compression, size)
    grid = compression.grid(size)
    assert motion.shape == (2, grid.frames, 2, grid.height, grid.width)
    times = torch.tensor(compression.token_times(9))
    torch.testing.assert_close(motion[0, :, 0, 0, 0], -0.2 * times / 8)  # 0.3 heights of 1.5 : 1
    torch.testing.assert_close(motion[0, :, 1, 0, 0], -0.1 * times / 8)
    assert motion[1].abs().max() < 1e-6
