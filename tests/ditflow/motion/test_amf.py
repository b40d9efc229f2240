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
from ditflow.motion.amf import displacement, expected, flow_loss, most_attended

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


def soft(query: Tensor, key: Tensor, grid: TokenGrid = GRID, temperature: float = 2.0) -> Tensor:
    return displacement(
        query, key, grid, lambda scores, coordinates: expected(scores, coordinates, temperature)
    )


def hard(query: Tensor, key: Tensor, grid: TokenGrid = GRID) -> Tensor:
    return displacement(query, key, grid, most_attended)


def record(query: Tensor, key: Tensor) -> Recording:
    return Recording(query={BLOCK: query}, key={BLOCK: key})


def published(query: Tensor, key: Tensor, grid: TokenGrid, temperature: float) -> Tensor:
    """As the paper writes it: scores averaged over heads, a softmax for each frame pair, a table of
    all displacements.
    """
    scores = torch.einsum("bqad,bkad->baqk", query, key).mean(1) / query.shape[-1] ** 0.5
    coordinates, s = grid.coordinates(), grid.tokens_per_frame
    relative = coordinates[None] - coordinates[:, None]  # (S, S, 2): from q to k
    flow = torch.empty(len(query), grid.frames, grid.frames, s, 2)
    for i in range(grid.frames):
        for j in range(grid.frames):
            attention = (temperature * scores[:, i * s : (i + 1) * s, j * s : (j + 1) * s]).softmax(
                -1
            )
            flow[:, i, j] = (attention[..., None] * relative).sum(2)
    return flow


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


def test_one_product_of_concatenated_heads_is_the_mean_over_heads() -> None:
    query, key = random_heads()
    by_head = torch.einsum("bqad,bkad->baqk", query, key).mean(1)
    torch.testing.assert_close(query.flatten(2) @ key.flatten(2).mT / 3, by_head, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        soft(query, key), published(query, key, GRID, 2.0), rtol=0, atol=1e-5
    )


def test_the_order_of_keys_does_not_matter() -> None:
    scores, coordinates = torch.randn(2, 30, 4, 30), GRID.coordinates()
    order = torch.randperm(30)
    torch.testing.assert_close(
        expected(scores, coordinates, 2.0),
        expected(scores[..., order], coordinates[order], 2.0),
        rtol=0,
        atol=1e-5,
    )
    torch.testing.assert_close(
        most_attended(scores, coordinates),
        most_attended(scores[..., order], coordinates[order]),
        rtol=0,
        atol=0,
    )


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
    torch.testing.assert_close(
        soft(tokens * 100, tokens)[0, 0, 1][interior(GRID, dx, dy)],
        flow[0, 1][interior(GRID, dx, dy)],
        rtol=0,
        atol=1e-5,
    )


def test_uniform_attention_looks_at_the_middle() -> None:
    query, key = random_heads()
    middle = torch.tensor([(GRID.width - 1) / 2, (GRID.height - 1) / 2]) - GRID.coordinates()
    flow = soft(torch.zeros_like(query), key)
    torch.testing.assert_close(flow, middle.expand_as(flow), rtol=0, atol=1e-5)


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
        error = (soft(query, key, temperature=temperature) - hard(query, key)).norm(dim=-1)
        assert (error <= bound).all()
    assert error.median() < 1e-3


def test_a_clip_is_not_a_fixed_point_of_its_own_loss() -> None:
    query, key = random_heads()
    signal = AttentionMotionFlow(BLOCK)
    reference = signal.reference(record(query, key), GRID)
    assert (signal.loss(record(query, key), GRID, reference) > 1).all()
    flow = soft(query, key)
    torch.testing.assert_close(flow_loss(flow, flow), torch.zeros(2), rtol=0, atol=0)


def test_the_loss_is_the_mean_over_tokens_that_move() -> None:
    flow, reference = torch.randn(2, 1, 4, 4, 30, 2)
    reference[torch.rand(1, 4, 4, 30) < 0.5] = 0
    reference[0, 0, 1, 0] = torch.tensor([0.0, 1.0])  # moves along one axis only: counts with both
    moves = reference.norm(dim=-1) > 0
    torch.testing.assert_close(
        flow_loss(flow, reference)[0], torch.nn.functional.mse_loss(flow[moves], reference[moves])
    )
    torch.testing.assert_close(
        flow_loss(flow, reference, threshold=False)[0],
        torch.nn.functional.mse_loss(flow, reference),
    )


def test_tokens_that_do_not_move_in_the_reference_are_free() -> None:
    flow, reference = (
        torch.randn(1, 4, 4, 30, 2, requires_grad=True),
        torch.randint(-1, 2, (1, 4, 4, 30, 2)).float(),
    )
    (gradient,) = torch.autograd.grad(flow_loss(flow, reference).sum(), flow)
    moves = reference.norm(dim=-1) > 0
    assert gradient[~moves].eq(0).all() and gradient[moves].ne(0).all()


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


def test_gradients_are_exact() -> None:
    grid = TokenGrid(2, 2, 3)
    query, key = (
        x.requires_grad_()
        for x in random_heads(grid, batch=2, heads=2, head_dim=2, dtype=torch.float64)
    )
    reference = hard(key.detach(), query.detach(), grid)
    assert torch.autograd.gradcheck(
        lambda q, k: flow_loss(soft(q, k, grid), reference), (query, key)
    )


@pytest.mark.parametrize("frames", [1, 6, 7, 13])
@pytest.mark.parametrize("scores_at_a_time", [1, 30 * 30 * 5, 2**24])
def test_any_number_of_frames_in_any_portions(
    frames: int, scores_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = TokenGrid(frames, 5, 6)
    monkeypatch.setattr(attention, "PAIRWISE", scores_at_a_time)
    query, key = (x.requires_grad_() for x in random_heads(grid))
    flow = soft(query, key, grid)
    torch.testing.assert_close(flow, published(query, key, grid, 2.0), rtol=0, atol=1e-5)
    weight = torch.randn(flow.shape, generator=torch.Generator().manual_seed(2))
    ours = torch.autograd.grad((flow * weight).sum(), [query, key])
    theirs = torch.autograd.grad((published(query, key, grid, 2.0) * weight).sum(), [query, key])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_are_float32_whatever_the_model(dtype: torch.dtype) -> None:
    query, key = (x.to(dtype) for x in random_heads())
    flow = soft(query, key)
    assert flow.dtype == torch.float32
    torch.testing.assert_close(flow, soft(query.float(), key.float()), rtol=0, atol=0)


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
