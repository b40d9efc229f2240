"""Noise that moves along: every frame stays exactly white, and content keeps its noise."""

import pytest
import torch
from torch import Tensor

from ditflow.core.sizes import Compression, VideoSize
from ditflow.fields.field import resized
from ditflow.fields.noise import canvas_cells, carried, on_latents
from tests.ditflow.fields.analytic import moving

FRAMES, ROWS, COLUMNS = 3, 6, 8
CELLS = ROWS * COLUMNS


def matrix(displacement: Tensor, share: float) -> Tensor:
    """What makes frames of all noise of one channel: (F, S, F*S), for basis vectors as channels."""
    basis = torch.eye(FRAMES * CELLS, dtype=torch.float64)
    noise = basis.view(-1, FRAMES, ROWS, COLUMNS).movedim(0, 1)
    return carried(noise, displacement, share).flatten(2).mT


def shifted(columns: int) -> Tensor:
    """Content that moves to the right by whole cells from each frame to the next."""
    moved = torch.zeros(FRAMES, 2, ROWS, COLUMNS)
    moved[:, 0] = -torch.arange(FRAMES)[:, None, None] * columns / COLUMNS
    return moved


def smooth(seed: int) -> Tensor:
    coarse = torch.randn(FRAMES, 2, 3, 3, generator=torch.Generator().manual_seed(seed)) * 0.2
    return resized(coarse, (ROWS, COLUMNS))


def affine(zoom: float, degrees: float = 0) -> Tensor:
    times = (0.0, 4.0, 8.0)
    return moving(zoom=zoom, degrees=degrees).resampled(times, (ROWS, COLUMNS), 9).displacement


@pytest.mark.parametrize("share", [0, 0.3, 1])
@pytest.mark.parametrize(
    "displacement",
    [
        smooth(0),
        smooth(1),
        affine(2.5),
        affine(0.4),
        affine(1.3, 70),
        shifted(0),
        shifted(1),
        torch.full((FRAMES, 2, ROWS, COLUMNS), 9.0),  # off the canvas
    ],
)
def test_each_frame_is_white(displacement: Tensor, share: float) -> None:
    rows = matrix(displacement, share)
    white = torch.eye(CELLS, dtype=torch.float64).expand(FRAMES, -1, -1)
    torch.testing.assert_close(rows @ rows.mT, white, rtol=0, atol=1e-12)


def test_frames_without_a_share_have_nothing_in_common_and_with_one_they_do() -> None:
    displacement = affine(1.5)  # the last frame shows the inner 1 / 1.5**2 of the first
    rows = matrix(displacement, 0)
    assert not (rows[0] @ rows[2].mT).any()
    rows = matrix(displacement, 1)
    assert (rows[0] @ rows[2].mT).norm(dim=1).mean() > 1 / 1.5**2 - 2 / CELLS


def test_a_share_of_0_is_the_same_noise() -> None:
    noise = torch.randn(FRAMES, 4, ROWS, COLUMNS)
    assert carried(noise, smooth(0), 0) is noise


def test_a_shift_carries_what_was_inside_but_for_the_colour_of_a_frame() -> None:
    noise = torch.randn(FRAMES, 4, ROWS, COLUMNS, dtype=torch.float64)
    moved = carried(noise, shifted(2), 1)
    assert torch.equal(moved[0], noise[0])
    for frame in (1, 2):
        change = moved[frame, :, :, 2 * frame :] - noise[0, :, :, : COLUMNS - 2 * frame]
        torch.testing.assert_close(change, change[:, :1, :1].expand_as(change), rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [0.09, 0.3, 1])
def test_a_cell_has_the_share_of_its_contents_first_noise(share: float) -> None:
    rows = matrix(shifted(1), share)
    first, cells = rows[0], torch.arange(CELLS).view(ROWS, COLUMNS)
    for frame in (1, 2):
        now, was = cells[:, frame:].flatten(), cells[:, : COLUMNS - frame].flatten()
        common = (rows[frame][now] * first[was]).sum(1)
        # a frame's colour is one part in S of a cell's variance
        wanted = torch.full_like(common, share**0.5)
        torch.testing.assert_close(common, wanted, rtol=0, atol=1.5 / CELLS)


def test_content_that_spreads_shares_its_noise() -> None:
    moved = torch.zeros(FRAMES, 2, ROWS, COLUMNS)
    moved[1:, 0, :, 1::2] = -1 / COLUMNS  # each pair of columns shows what was in the left one
    rows = matrix(moved, 1)
    pair = rows[1].view(ROWS, COLUMNS, -1)[:, 0] + rows[1].view(ROWS, COLUMNS, -1)[:, 1]
    first = rows[0].view(ROWS, COLUMNS, -1)[:, 0]
    common = (pair / 2**0.5 * first).sum(1)
    torch.testing.assert_close(common, torch.ones_like(common), rtol=0, atol=3 / CELLS)


def test_cells_of_the_canvas_are_those_that_displacements_point_to() -> None:
    cells, inside, size = canvas_cells(shifted(1))
    assert size == 9 * CELLS
    assert inside.all()
    grid = cells.view(FRAMES, ROWS, COLUMNS)
    assert torch.equal(grid[1], grid[0] - 1)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_from_0_to_1(share: float) -> None:
    with pytest.raises(ValueError, match=r"noise_share is .* a share from 0 to 1"):
        carried(torch.zeros(FRAMES, 1, ROWS, COLUMNS), shifted(0), share)


def test_fields_come_to_the_latents_of_a_video() -> None:
    compression, size = Compression(), VideoSize(9, 64, 96)
    moved = on_latents([moving((0.3, 0)), moving()], compression, size)
    frames, _, rows, columns = compression.latent_shape(size)
    assert moved.shape == (2, frames, 2, rows, columns)
    times = torch.tensor(compression.latent_times(9))
    torch.testing.assert_close(moved[0, :, 0, 0, 0], -0.2 * times / 8)  # 0.3 heights of 1.5 : 1
    assert moved[1].abs().max() < 1e-6
