"""Optimised positions as a field of offsets: identities, and the operations of motion fields.

A field is put where `displaced` puts it, so an operation on its offsets must be the same operation
on the field, and then `displaced`. Float32 positions of up to ten tokens have steps of 1e-6; a
dozen operations on them stay below 1e-5.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditflow.core.sizes import Compression, VideoSize
from ditflow.fields import operations
from ditflow.fields.changes import changed, changed_offsets
from ditflow.fields.field import FieldError, FieldSource, MotionField
from ditflow.fields.offsets import Offsets
from ditflow.fields.positions import displaced, on_tokens

COMPRESSION = Compression(time=4, space=2, patch=2)
SIZE, TALLER, LONGER = VideoSize(16, 24, 32), VideoSize(16, 48, 32), VideoSize(32, 24, 32)
CLOSE = {"rtol": 0, "atol": 1e-5}


def stock(size: VideoSize) -> Tensor:
    return COMPRESSION.grid(size).places()


def optimised(size: VideoSize = SIZE) -> Tensor:
    """Positions (G, 2, N, 3) as if optimised, for two steps, queries and keys."""
    draw = torch.Generator().manual_seed(0)
    return stock(size) + 0.5 * torch.randn(2, 2, len(stock(size)), 3, generator=draw)


def offsets(positions: Tensor, size: VideoSize = SIZE) -> Offsets:
    return Offsets.of(positions, stock(size), COMPRESSION, size)


def positions(found: Offsets, size: VideoSize = SIZE) -> Tensor:
    return found.on(stock(size), COMPRESSION, size)


def pan(x: float, y: float) -> MotionField:
    """Content that goes (x, y) in shares of the frame until the last frame, at constant speed."""
    rows, columns = SIZE.height, SIZE.width
    shares = torch.tensor([0.0, 0.5, 1.0])[:, None, None, None]
    moved = -shares * torch.tensor([x, y])[:, None, None].expand(2, rows, columns)
    last, aspect = SIZE.frames - 1.0, columns / rows
    return MotionField(
        moved,
        torch.ones(3, rows, columns),
        (0.0, last / 2, last),
        SIZE.frames,
        aspect,
        FieldSource("exact"),
    )


def placed(field: MotionField, size: VideoSize = SIZE) -> Tensor:
    return displaced(stock(size), on_tokens([field], COMPRESSION, size))


def test_at_the_same_size_they_are_the_same() -> None:
    torch.testing.assert_close(positions(offsets(optimised())), optimised(), **CLOSE)


@pytest.mark.parametrize("size", [TALLER, LONGER, VideoSize(24, 36, 24)])
def test_they_grow_with_the_grid(size: VideoSize) -> None:
    """A pan goes as many shares of another frame, and its whole way in another time."""
    field = pan(0.25, -0.125)
    found, wanted = positions(offsets(placed(field)), size), placed(field, size)
    inner = slice(COMPRESSION.grid(size).tokens_per_frame, -COMPRESSION.grid(size).tokens_per_frame)
    torch.testing.assert_close(found[inner], wanted[inner], **CLOSE)  # before and after, they hold


def test_an_offset_in_time_grows_with_the_length() -> None:
    later = stock(SIZE) + torch.tensor([0.5, 0.0, 0.0])
    grown = 0.5 * (COMPRESSION.grid(LONGER).frames - 1) / (COMPRESSION.grid(SIZE).frames - 1)
    found = positions(offsets(later), LONGER) - stock(LONGER)
    torch.testing.assert_close(found, torch.tensor([grown, 0, 0]).expand_as(found), **CLOSE)


def test_on_a_finer_grid_and_back_smooth_offsets_stay() -> None:
    """Linear interpolation keeps what is linear; at the rim it holds, so it is left out."""
    field = pan(0.2, 0.1)
    turned = operations.composed(field, operations.rotated(field, 90))
    ramp = turned.replaced(turned.displacement * torch.linspace(0.5, 1, SIZE.width))
    own = offsets(placed(ramp))
    back = offsets(positions(own, VideoSize(16, 48, 64)), VideoSize(16, 48, 64))
    again = offsets(positions(back, SIZE)).values[..., 1:-1, 1:-1, :]
    torch.testing.assert_close(again, own.values[..., 1:-1, 1:-1, :], rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "mirrored",
        "mirrored top-bottom",
        "rotated 180",
        "scaled 0.5",
        "scaled -1",
        "mirrored, scaled 2",
    ],
)
def test_a_change_of_the_offsets_is_that_of_the_field(words: str) -> None:
    """Uniform motion, which grids and times interpolate exactly."""
    field = pan(0.25, -0.125)
    found = changed_offsets(offsets(placed(field)), words)
    torch.testing.assert_close(positions(found), placed(changed(field, words)), **CLOSE)


@pytest.mark.parametrize(("words", "kept"), [("paced 2", slice(1, 4)), ("paced 0.6", slice(0, 2))])
def test_a_pace_is_that_of_the_field(words: str, kept: slice) -> None:
    """At the times of four tokens, 1.5 to 13.5 of 15: before the first and after the last they
    hold, where a field goes on to its ends.
    """
    field, grid = pan(0.25, -0.125), COMPRESSION.grid(SIZE)
    found = positions(changed_offsets(offsets(placed(field)), words))
    wanted = placed(changed(field, words)).view(grid.frames, -1, 3)[kept]
    torch.testing.assert_close(found.view(grid.frames, -1, 3)[kept], wanted, **CLOSE)


def test_a_region_is_that_of_the_field() -> None:
    """But for the tokens at its rim, where the cells of a field are finer."""
    field, grid = pan(0.25, -0.125), COMPRESSION.grid(SIZE)
    found = positions(changed_offsets(offsets(placed(field)), "restricted 0 0 0.5 1"))
    wanted = placed(changed(field, "restricted 0 0 0.5 1"))
    shape, inner = (grid.frames, grid.height, grid.width, 3), [0, 1, 2, 5, 6, 7]
    torch.testing.assert_close(
        found.view(shape)[:, :, inner], wanted.view(shape)[:, :, inner], **CLOSE
    )


def test_a_quarter_turn_turns_the_frame_in_its_true_proportions() -> None:
    right = offsets(placed(pan(0.25, 0.0)))
    down = changed_offsets(right, "rotated 90")
    grown = 0.25 * SIZE.width / SIZE.height  # as many pixels, of a shorter side
    torch.testing.assert_close(positions(down), placed(pan(0.0, grown)), **CLOSE)


SQUARE = VideoSize(16, 32, 32)


@pytest.mark.parametrize(
    ("words", "times"),
    [("mirrored", 2), ("mirrored top-bottom", 2), ("reversed", 2), ("rotated 90", 4)],
)
def test_symmetries_come_back(words: str, times: int) -> None:
    """Tokens of an even number of latent frames lie symmetric in time, so nothing is blurred."""
    own = offsets(optimised(SQUARE), SQUARE)
    changed_once = changed_offsets(own, words)
    assert float((changed_once.values - own.values).abs().max()) > 0.1
    found = changed_offsets(own, ", ".join([words] * times))
    torch.testing.assert_close(found.values, own.values, **CLOSE)


def test_reversed_keeps_which_tokens_belong_together() -> None:
    """Of a pan, tokens that show the same content have the same place, backwards too."""
    back = positions(changed_offsets(offsets(placed(pan(0.25, 0.0))), "reversed"))
    grid = COMPRESSION.grid(SIZE)
    x = back.view(grid.frames, grid.height, grid.width, 3)[:, 0, :, 2]
    steps = (x[1:] - x[:-1]).mean(1)
    assert (steps > 0).all(), "content goes left now, so a place is that of later tokens' left"
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), **CLOSE)


def test_a_mask_is_a_region_too() -> None:
    mask = torch.zeros(6, 8)  # as many pixels as tokens
    mask[:, :4] = 1
    own = offsets(optimised())
    found = changed_offsets(own, "restricted left.png", {"left.png": mask})
    box = changed_offsets(own, "restricted 0 0 0.5 1")
    torch.testing.assert_close(found.values, box.values, **CLOSE)


@pytest.mark.parametrize("words", ["camera", "objects", "smoothed"])
def test_what_fields_alone_can_have_is_refused(words: str) -> None:
    with pytest.raises(FieldError, match=f"'{words}' is a change of motion fields, and the posit"):
        changed_offsets(offsets(optimised()), words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("restricted 0 0 1 1 moving", "cannot move along with optimised positions"),
        ("mirrored up", "left-right or top-bottom, not 'up'"),
        ("paced 0", "a factor above 0, not by 0"),
        ("scaled nan", "that is finite, not by nan"),
        ("rotated far", "rotated takes DEGREES"),
    ],
)
def test_mistakes_are_one_sentence(words: str, sentence: str) -> None:
    with pytest.raises(FieldError, match=sentence):
        changed_offsets(offsets(optimised()), words)
