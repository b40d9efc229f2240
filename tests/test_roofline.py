"""The counts of `tests.benchmarks.roofline`, on operations whose products and bytes are known."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from ditflow.models.convolution import DirectConvolution
from tests.benchmarks.roofline import Moved, Phase

N = 64


def test_an_operation_moves_what_it_reads_and_writes() -> None:
    one, other = torch.ones(N, N), torch.ones(N, N)
    with Moved() as moved:
        one + other
    assert moved.bytes == 3 * 4 * N * N
    with Moved() as moved:
        one.view(-1)[None].transpose(0, 1)
    assert moved.bytes == 0
    with Moved() as moved:
        one + torch.ones(1, N).expand(N, N)
    assert moved.bytes == 4 * (2 * N * N + N) + 4 * N, "a row is written once, and read once"


@pytest.mark.parametrize("backward", [False, True])
def test_attention_counts_its_products(backward: bool) -> None:
    """Scores and their product with the values; on the way back five products of that size."""
    query, key, value = torch.randn(3, 1, 2, N, 16, requires_grad=backward)

    def attend() -> None:
        out = scaled_dot_product_attention(query, key, value)
        if backward:
            torch.autograd.grad(out.sum(), (query, key, value))

    phase = Phase(attend)
    phase.count()
    product = 2.0 * 2 * N * N * 16
    assert phase.operations == product * (7 if backward else 2)


def test_a_convolution_of_onednn_is_counted() -> None:
    video, kernel = torch.ones(1, 3, 4, 8, 8), torch.ones(5, 3, 3, 3, 3)

    def convolve() -> None:
        with DirectConvolution():
            torch.conv3d(video, kernel, None, (1, 1, 1), (1, 1, 1), (1, 1, 1), 1)

    phase = Phase(convolve)
    phase.count()
    assert phase.operations == 2.0 * 5 * 4 * 8 * 8 * 3 * 27


def test_a_product_that_is_added_in_place_is_counted() -> None:
    one = torch.ones(3, N, N)
    phase = Phase(lambda: one.clone().baddbmm_(one, one, alpha=0.5))
    phase.count()
    assert phase.operations == 3 * 2.0 * N**3
