"""Attention motion flow: its algebra, its oracles, and the memory that it must not take."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion import SIGNALS, AttentionMotionFlow, attention
from ditflow.motion.amf import displacement, flow_loss
from tests.flow import published, published_loss

GRID = TokenGrid(4, 5, 6)
BLOCK = 3


def random_heads(
    grid: TokenGrid = GRID,
    batch: int = 2,
    heads: int = 3,
    head_dim: int = 8,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(
        2, batch, grid.tokens, heads, head_dim, generator=generator, dtype=dtype
    )
    return query, key


def loss_of(
    query: Tensor,
    key: Tensor,
    reference: Tensor,
    grid: TokenGrid = GRID,
    temperature: float = 2.0,
    threshold: bool = True,
) -> Tensor:
    return flow_loss(query, key, grid, reference, temperature=temperature, threshold=threshold)


def hard(query: Tensor, key: Tensor, grid: TokenGrid = GRID) -> Tensor:
    return displacement(query, key, grid)


def record(query: Tensor, key: Tensor) -> Recording:
    return Recording(query={BLOCK: query}, key={BLOCK: key})


def moving(grid: TokenGrid, dx: int, dy: int) -> Tensor:
    """Tokens of one clip whose content moves by (dx, dy) a frame: unit vectors of a field that
    slides under the window, (1, N, 1, D).
    """
    margin, generator = grid.frames * 2, torch.Generator().manual_seed(1)
    field = torch.nn.functional.normalize(
        torch.randn(grid.height + 2 * margin, grid.width + 2 * margin, 32, generator=generator),
        dim=-1,
    )
    frames = [
        field[margin - t * dy :, margin - t * dx :][: grid.height, : grid.width]
        for t in range(grid.frames)
    ]
    return torch.stack(frames).reshape(1, grid.tokens, 1, 32)


def interior(grid: TokenGrid, dx: int, dy: int) -> Tensor:
    """bool (S,): tokens that are still in the picture after that displacement."""
    x, y = grid.coordinates().unbind(-1)
    return (x + dx >= 0) & (x + dx < grid.width) & (y + dy >= 0) & (y + dy < grid.height)


@pytest.mark.parametrize("threshold", [True, False])
def test_the_loss_and_its_gradient_are_those_of_the_paper(threshold: bool) -> None:
    query, key = (x.requires_grad_() for x in random_heads(dtype=torch.float64))
    reference = hard(*random_heads(batch=2, heads=2, dtype=torch.float64))
    reference[torch.rand(2, 4, 4, 30) < 0.3] = 0
    reference[0, 0, 1, 0] = torch.tensor([0.0, 1.0])  # moves along one axis only: counts with both
    ours = loss_of(query, key, reference, threshold=threshold)
    theirs = published_loss(published(query, key, GRID, 2.0), reference, threshold)
    # 120 tokens and some hundred sums of float64, 2e-16 each
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    weight = torch.tensor([1.0, -3.0])
    gradients = [torch.autograd.grad((x * weight).sum(), [query, key]) for x in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (0, 1), (-1, 0), (1, -1)])
def test_moving_content_has_its_displacement(dx: int, dy: int) -> None:
    tokens = moving(GRID, dx, dy)
    flow = hard(tokens, tokens)[0]
    for i in range(GRID.frames):
        for j in range(GRID.frames):
            gone = ((j - i) * dx, (j - i) * dy)
            seen = flow[i, j][interior(GRID, *gone)]
            torch.testing.assert_close(
                seen, torch.tensor(gone, dtype=torch.float32).expand_as(seen), rtol=0, atol=0
            )
    seen = torch.zeros_like(flow)[None]  # tokens without a displacement are left out
    seen[0, 0, 1] = flow[0, 1] * interior(GRID, dx, dy)[:, None]
    assert loss_of(tokens * 100, tokens, seen) < 1e-10  # in tokens, squared


def test_uniform_attention_looks_at_the_middle() -> None:
    query, key = random_heads()
    middle = torch.tensor([(GRID.width - 1) / 2, (GRID.height - 1) / 2]) - GRID.coordinates()
    reference = middle.expand(2, 4, 4, -1, -1)
    assert (loss_of(torch.zeros_like(query), key, reference, threshold=False) < 1e-10).all()


def test_soft_becomes_hard_as_the_temperature_rises() -> None:
    query, key = random_heads()
    scores = torch.einsum("bqad,bkad->bqk", query, key).unflatten(-1, (4, 30)) / (3 * 8**0.5)
    best = scores.topk(2).values
    gap = (best[..., 0] - best[..., 1]).unflatten(1, (4, 30)).transpose(2, 3)  # (B, F, F, S)
    for temperature in (50.0, 500.0):
        bound = (
            math.hypot(GRID.width, GRID.height) * GRID.tokens_per_frame * (-temperature * gap).exp()
            + 1e-5
        )
        loss = loss_of(query, key, hard(query, key), temperature=temperature, threshold=False)
        assert (loss <= bound.square().flatten(1).mean(dim=1) / 2).all()
    clear = hard(query, key) * (gap > 0.1)[..., None]  # e^-50 is nothing
    assert (loss_of(query, key, clear, temperature=500.0) < 1e-10).all()
    assert (loss_of(query, key, clear, temperature=5.0) > 1e-3).all()


def test_a_clip_is_not_a_fixed_point_of_its_own_loss() -> None:
    query, key = random_heads()
    signal = AttentionMotionFlow(BLOCK)
    reference = signal.reference(record(query, key), GRID)
    assert (signal.loss(record(query, key), GRID, reference) > 1).all()


def test_tokens_that_do_not_move_in_the_reference_are_free() -> None:
    """Where all of a frame is free, its queries are: nothing of them is in the loss."""
    query, key = (x.requires_grad_() for x in random_heads())
    reference = torch.randint(1, 3, (2, 4, 4, 30, 2)).float()
    reference[:, 2] = 0
    reference[:, :, 3] = 0
    reference[:, :, :, 7] = 0
    by_query, by_key = (
        x.unflatten(1, (4, 30))
        for x in torch.autograd.grad(loss_of(query, key, reference).sum(), [query, key])
    )
    assert by_query[:, 2].eq(0).all() and by_query[:, :, 7].eq(0).all() and by_key[:, 3].eq(0).all()
    assert by_query[:, 0, 8].ne(0).all() and by_key[:, 2].ne(0).all()


@pytest.mark.parametrize("threshold", [True, False])
def test_clips_are_independent(threshold: bool) -> None:
    query, key = random_heads(batch=3)
    signal = AttentionMotionFlow(BLOCK, threshold=threshold)
    reference = signal.reference(record(key, query), GRID)
    losses = signal.loss(record(query, key), GRID, reference)
    for clip in range(3):
        one = slice(clip, clip + 1)
        torch.testing.assert_close(
            signal.loss(record(query[one], key[one]), GRID, reference[one]),
            losses[one],
            rtol=0,
            atol=0,
        )


def test_a_static_reference_has_no_loss_and_no_gradient() -> None:
    query, key = (x.requires_grad_() for x in random_heads())
    still = (
        torch.eye(GRID.tokens_per_frame).repeat(GRID.frames, 1)[None, :, None].expand(2, -1, -1, -1)
        * 10
    )
    signal = AttentionMotionFlow(BLOCK)
    reference = signal.reference(record(still, still), GRID)
    assert signal.is_static(reference).tolist() == [True, True] and reference.eq(0).all()
    loss = signal.loss(record(query, key), GRID, reference)
    assert loss.tolist() == [0, 0]
    for gradient in torch.autograd.grad(loss.sum(), [query, key]):
        assert gradient.eq(0).all()


@pytest.mark.parametrize("threshold", [True, False])
def test_gradients_are_exact(threshold: bool) -> None:
    grid = TokenGrid(2, 2, 3)
    query, key = (
        x.requires_grad_()
        for x in random_heads(grid, batch=2, heads=2, head_dim=2, dtype=torch.float64)
    )
    reference = hard(key.detach(), query.detach(), grid)
    assert torch.autograd.gradcheck(
        lambda q, k: loss_of(q, k, reference, grid, threshold=threshold), (query, key)
    )
    (once,) = torch.autograd.grad(
        loss_of(query, key, reference, grid).sum(), [query], create_graph=True
    )
    with pytest.raises(RuntimeError):
        torch.autograd.grad(once.sum(), [query])


@pytest.mark.parametrize("frames", [1, 6, 7, 13])
@pytest.mark.parametrize("scores_at_a_time", [1, 30 * 30 * 5, 2**24])
def test_any_number_of_frames_in_any_portions(
    frames: int, scores_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = TokenGrid(frames, 5, 6)
    monkeypatch.setattr(attention, "PAIRWISE", scores_at_a_time)
    query, key = (x.requires_grad_() for x in random_heads(grid))
    reference = torch.randint(-1, 2, (2, frames, frames, 30, 2)).float()
    reference[:, frames // 2, : frames // 3] = 0  # pairs that are left out
    ours = loss_of(query, key, reference, grid)
    theirs = published_loss(published(query, key, grid, 2.0), reference)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)  # a mean of float32
    gradients = [torch.autograd.grad(x.sum(), [query, key]) for x in (ours, theirs)]
    # of the same order as their root mean square, 1e-3 to 1e-2
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_the_same_loss_where_nothing_is_to_be_differentiated() -> None:
    query, key = random_heads()
    reference = hard(key, query)
    loss = loss_of(query, key, reference)
    assert not loss.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(
            loss_of(query.requires_grad_(), key, reference), loss, rtol=0, atol=0
        )
    assert loss_of(query, key, reference).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_are_float32_whatever_the_model(dtype: torch.dtype) -> None:
    query, key = (x.to(dtype).requires_grad_() for x in random_heads())
    reference = hard(*random_heads(heads=2))
    loss = loss_of(query, key, reference)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_of(query.float(), key.float(), reference), rtol=0, atol=0)
    # one backward after another, as a float16 loss that overflows needs it
    for _ in range(2):
        (gradient,) = torch.autograd.grad(loss.sum(), [query], retain_graph=True)
        assert gradient.dtype == dtype and gradient.ne(0).any()


class Largest(TorchDispatchMode):
    """The most elements that any tensor has that is made."""

    elements = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        made = output if isinstance(output, tuple) else (output,)
        self.elements = max(
            [self.elements, *(tensor.numel() for tensor in made if isinstance(tensor, Tensor))]
        )
        return output


def test_no_tensor_grows_with_the_square_of_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = TokenGrid(5, 8, 9)
    query, key = (x.requires_grad_() for x in random_heads(grid, batch=1, heads=2, head_dim=4))
    monkeypatch.setattr(attention, "PAIRWISE", grid.tokens_per_frame**2)
    reference = AttentionMotionFlow(BLOCK).reference(record(key, query), grid)
    with Largest() as largest:
        torch.autograd.grad(
            AttentionMotionFlow(BLOCK).loss(record(query, key), grid, reference).sum(), [query, key]
        )
    assert (
        largest.elements == grid.tokens_per_frame**2
    )  # one frame pair, although N^2 is 25 times as much

    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        AttentionMotionFlow(BLOCK).loss(record(query, key), grid, reference)
    assert max(saved) < grid.tokens_per_frame**2  # and no scores are kept until backward


def test_it_describes_itself() -> None:
    description = AttentionMotionFlow(20, temperature=3.0, threshold=False).describe()
    name = description.pop("name")
    assert SIGNALS[name](**description).describe() == {
        "name": "amf",
        "block": 20,
        "temperature": 3.0,
        "threshold": False,
    }
    assert SIGNALS[name](**description).capture == (20,)
