"""A part of the scores: which frame pairs and places are compared, and how exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion import AttentionMotionFlow
from ditflow.motion.amf import displacement, flow_loss
from ditflow.motion.attention import Scan
from ditflow.sampling.savings import Savings

GRID = TokenGrid(4, 5, 6)


def heads(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    query, key = (torch.randn(2, GRID.tokens, 3, 8, generator=draw, dtype=dtype) for _ in range(2))
    return query.requires_grad_(), key.requires_grad_()


def masked_loss(query: Tensor, key: Tensor, reference: Tensor, scan: Scan) -> Tensor:
    """The loss by all scores at once, with those that are not read left out."""
    places = GRID.coordinates().to(query.dtype)
    scores = torch.einsum("bqad,bkad->bqk", query, key) * 2.0 / (3 * 8**0.5)
    scores = scores.unflatten(1, (4, 30)).unflatten(3, (4, 30)).transpose(2, 3)  # (B, F, F, S, S)
    far = scan.window or 99
    apart = (places[:, None] - places).abs().amax(dim=-1)
    weights = scores.masked_fill(apart > far, -torch.inf).softmax(dim=-1)
    off = weights @ places - places - reference
    read = reference.ne(0).any(dim=-1) & (reference.abs().amax(dim=-1) <= far)
    for i in range(4):
        for j in range(4):
            near = abs(i - j) == 1 or (scan.pairs == "anchors" and 0 in (i, j) and i != j)
            read[:, i, j] &= scan.pairs == "all" or near
    summed = (off.square().sum(dim=-1) * read).flatten(1).sum(dim=1)
    return summed / (2 * read.flatten(1).sum(dim=1))


@pytest.mark.parametrize("pairs", ["all", "neighbours", "anchors"])
@pytest.mark.parametrize("window", [None, 1, 2, 9])
def test_a_scan_reads_a_part_of_the_scores(pairs: str, window: int | None) -> None:
    """In global coordinates; loss and gradient, in float64."""
    query, key = heads()
    draw = torch.Generator().manual_seed(4)
    reference = torch.randint(-3, 4, (2, 4, 4, 30, 2), generator=draw).double()
    scan = Scan(pairs, window)
    ours = flow_loss(query, key, GRID, reference, temperature=2.0, scan=scan)
    theirs = masked_loss(query, key, reference, scan)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(x.sum(), [query, key]) for x in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-14)


def test_a_coarse_scan_is_close_to_the_exact_one() -> None:
    query, key = (x.detach().float().requires_grad_() for x in heads())
    reference = displacement(key, query, GRID)
    losses = [
        flow_loss(query, key, GRID, reference, temperature=2.0, scan=Scan(dtype=dtype))
        for dtype in ("float32", "bfloat16")
    ]
    assert losses[1].dtype == torch.float32 and not losses[0].equal(losses[1])
    # bfloat16 has 8 bits: a score of order 1 is off by some 2^-8, and so are displacements
    torch.testing.assert_close(*losses, rtol=2**-6, atol=0)
    exact, coarse = (torch.autograd.grad(x.sum(), query)[0].flatten(1) for x in losses)
    assert (torch.cosine_similarity(exact, coarse) > 0.99).all()


def test_a_signal_reads_what_the_savings_leave() -> None:
    query, key = (x.detach() for x in heads())
    recording = Recording(query={2: query}, key={2: key})
    signal, reference = AttentionMotionFlow(2), displacement(key, query, GRID)
    whole, part = (
        Savings.parsed(words).loss(signal, recording, GRID, reference)
        for words in ("", "pairs neighbours")
    )
    torch.testing.assert_close(signal.loss(recording, GRID, reference), whole, rtol=0, atol=0)
    torch.testing.assert_close(part, masked_loss(query, key, reference, Scan("neighbours")))
