"""What is filled in: an affine motion wholly, and nothing that is trusted."""

import pytest
import torch
from torch import Tensor

from ditflow.fields.field import cell_places
from ditflow.fields.fill import affine_motion, filled

ROWS, COLUMNS = 12, 20


def camera() -> Tensor:
    """Displacements (3, 2, H, W): still, a shift, and a turn with a zoom."""
    places = cell_places(ROWS, COLUMNS) - 0.5
    turn = torch.tensor([[0.2, -0.3], [0.3, 0.2]])
    turned = torch.einsum("ij,jyx->iyx", turn, places)
    shift = torch.tensor([0.1, -0.2])[:, None, None].expand_as(places)
    return torch.stack([torch.zeros_like(places), shift, turned])


def test_what_is_trusted_stays() -> None:
    moved = torch.randn(3, 2, ROWS, COLUMNS)
    torch.testing.assert_close(filled(moved, torch.ones(3, ROWS, COLUMNS)), moved)


@pytest.mark.parametrize("hole", [(slice(None), slice(12, 20)), (slice(3, 9), slice(5, 15))])
def test_a_hole_in_an_affine_motion_is_filled_exactly(hole: tuple[slice, slice]) -> None:
    moved, confidence = camera(), torch.ones(3, ROWS, COLUMNS)
    confidence[:, *hole] = 0
    broken = torch.where(confidence[:, None] > 0, moved, 5.0)
    # the ridge of the fit, and cells of trust 0 that weigh 1e-6, are all that differs
    torch.testing.assert_close(filled(broken, confidence), moved, rtol=0, atol=1e-3)


def test_a_thing_that_moves_by_itself_is_not_the_camera() -> None:
    moved = camera()
    moved[:, :, 3:9, 4:11] += 0.4  # under a fifth of the picture
    fit = affine_motion(moved, torch.ones(3, ROWS, COLUMNS))
    torch.testing.assert_close(fit, camera(), rtol=0, atol=0.004)  # half of TOLERANCE


def test_a_thing_keeps_its_motion_around_a_hole_in_it() -> None:
    moved, confidence = torch.zeros(1, 2, ROWS, COLUMNS), torch.ones(1, ROWS, COLUMNS)
    moved[:, 0, 2:10, 4:12] = 0.3
    kept = moved.clone()
    confidence[:, 5, 7] = 0
    moved[:, :, 5, 7] = 9.0
    result = filled(moved, confidence)
    torch.testing.assert_close(
        result[confidence[:, None].expand_as(kept) > 0],
        kept[confidence[:, None].expand_as(kept) > 0],
    )
    assert 0 < result[0, 0, 5, 7] <= 0.3


def test_nothing_followed_at_all_is_no_motion() -> None:
    result = filled(torch.zeros(1, 2, ROWS, COLUMNS), torch.zeros(1, ROWS, COLUMNS))
    assert result.abs().max() == 0
