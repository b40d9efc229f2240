from __future__ import annotations

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb, get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from torch import Tensor

from ditflow.core.positions import rotary_frequencies, rotary_tables, rotate
from ditflow.core.sizes import TokenGrid, VideoSize
from tests.registry import grid_of, tiny_backbone


def frequencies(head_dim: int) -> list[Tensor]:
    """Those of CogVideoX: a quarter of the channels for time, three eighths for each of space."""
    time, space = head_dim // 4, head_dim // 8 * 3
    return [rotary_frequencies(channels) for channels in (time, space, space)]


@pytest.mark.parametrize("head_dim", [16, 32, 64])
@pytest.mark.parametrize("frames", [6, 7, 13])
def test_stock_positions_give_the_stock_table_bit_by_bit(head_dim: int, frames: int) -> None:
    grid = TokenGrid(frames, 30, 45)
    stock = torch.stack(get_3d_rotary_pos_embed(head_dim, ((0, 0), (30, 45)), (30, 45), frames))
    positions = torch.cartesian_prod(
        *(torch.linspace(0, n * (n - 1) / n, n) for n in (grid.frames, grid.height, grid.width))
    )
    torch.testing.assert_close(
        rotary_tables(positions, frequencies(head_dim)), stock, rtol=0, atol=0
    )


@pytest.mark.parametrize(
    "size",
    [VideoSize(9, 32, 48), VideoSize(25, 64, 64), VideoSize(21, 48, 32), VideoSize(49, 16, 64)],
)
def test_the_backbones_table_is_the_stock_pipelines_at_any_size(size: VideoSize) -> None:
    backbone = tiny_backbone("rotary")
    grid = backbone.spec.compression.grid(size)
    crop = get_resize_crop_region_for_grid((grid.height, grid.width), 6, 4)
    stock = torch.stack(
        get_3d_rotary_pos_embed(
            backbone.spec.head_dim, crop, (grid.height, grid.width), grid.frames
        )
    )
    position = backbone.stock_position(grid_of(backbone, size))
    assert (
        position.shape == (1, 2, 2, grid.tokens, backbone.spec.head_dim)
        and position.dtype == torch.float32
    )
    for side in position[0]:
        torch.testing.assert_close(side, stock, rtol=0, atol=0)


def test_positions_keep_their_leading_dimensions() -> None:
    positions = torch.randn(3, 2, 10, 3)
    tables = rotary_tables(positions, frequencies(16))
    assert tables.shape == (3, 2, 2, 10, 16)
    torch.testing.assert_close(
        tables[1, 0], rotary_tables(positions[1, 0], frequencies(16)), rtol=0, atol=0
    )


def test_a_table_from_positions_is_a_rotation() -> None:
    cos, sin = rotary_tables(torch.randn(10, 3), frequencies(32))
    torch.testing.assert_close(cos**2 + sin**2, torch.ones_like(cos))


def test_channels_turn_with_one_axis_each() -> None:
    assert [len(axis) for axis in frequencies(64)] == [8, 12, 12]
    moved = (
        rotary_tables(torch.tensor([[0.0, 0.0, 1.0]]), frequencies(64))
        != rotary_tables(torch.zeros(1, 3), frequencies(64))
    ).any(dim=0)[0]
    assert not moved[:40].any() and moved[40:].all()  # x turns the last three eighths only


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_is_the_stock_one_and_out_of_place(dtype: torch.dtype) -> None:
    x, (cos, sin) = torch.randn(2, 10, 3, 16).to(dtype), torch.randn(2, 10, 16)
    before = x.clone()
    turned = rotate(x, cos[None, :, None], sin[None, :, None])
    assert turned.dtype == dtype and torch.equal(x, before)
    torch.testing.assert_close(
        turned.transpose(1, 2), apply_rotary_emb(x.transpose(1, 2), (cos, sin)), rtol=0, atol=0
    )


def test_rotation_is_differentiable_in_everything() -> None:
    x, cos, sin = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 2, 8), (2, 3, 1, 8), (1, 3, 1, 8))
    )
    assert torch.autograd.gradcheck(rotate, (x, cos, sin))
    positions = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: rotary_tables(p, frequencies(8)), positions)
