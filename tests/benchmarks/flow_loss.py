"""What the loss of attention motion flow and its gradient cost, against the published formulation.

    python -m tests.benchmarks.flow_loss --grids 6x10x15 13x10x15 6x18x30 --heads 48
    python -m tests.benchmarks.flow_loss --grids 13x30x45 --heads 1 --pairs 3

The published formulation is written here from the paper: all scores of all heads, their mean, a
softmax and a table of displacements for each frame pair. Both take the same queries, keys and
reference in one process and take turns. Memory is what torch allocates beyond the inputs, at most,
gradients included. The ratio of memory hardly depends on the number of heads, so a grid of a large
model is measured with few.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ditflow.core.sizes import TokenGrid
from ditflow.motion.amf import flow_loss
from tests.flow import published, published_loss

TEMPERATURE, HEAD_DIM = 2.0, 64
Loss = Callable[[Tensor, Tensor], Tensor]


def gradient(loss: Loss, query: Tensor, key: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss(query, key).sum(), (query, key))


def seconds(loss: Loss, query: Tensor, key: Tensor) -> float:
    began = time.process_time()
    gradient(loss, query, key)
    return time.process_time() - began


def largest(work: Callable[[], object]) -> int:
    """The most bytes that are allocated at a time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    results = seen.profiler.kineto_results  # type: ignore[union-attr]
    events = [event for event in results.events() if event.name() == "[memory]"]
    allocated, most = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        allocated += event.nbytes()
        most = max(most, allocated)
    return most


def row(grid: TokenGrid, heads: int, pairs: int) -> str:
    draw = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, grid.tokens, heads, HEAD_DIM, generator=draw).unbind()
    query.requires_grad_(), key.requires_grad_()
    shape = (1, grid.frames, grid.frames, grid.tokens_per_frame, 2)
    reference = torch.randint(1, 4, shape, generator=draw).float()
    reference[:, range(grid.frames), range(grid.frames)] = 0  # as a frame is to itself

    def ours(query: Tensor, key: Tensor) -> Tensor:
        return flow_loss(query, key, grid, reference, temperature=TEMPERATURE)

    def theirs(query: Tensor, key: Tensor) -> Tensor:
        return published_loss(published(query, key, grid, TEMPERATURE), reference)

    memory = [largest(partial(gradient, loss, query, key)) for loss in (ours, theirs)]
    ratios, ours_took = [], []
    for number in range(pairs):
        first, second = (ours, theirs) if number % 2 else (theirs, ours)
        took = {loss: seconds(loss, query, key) for loss in (first, second)}
        ratios.append(took[theirs] / took[ours])
        ours_took.append(took[ours])
    return (
        f"| {grid.frames} of {grid.height} x {grid.width} | {heads} | {memory[1] / 2**20:,.0f} | "
        f"{memory[0] / 2**20:,.0f} | 1/{memory[1] / memory[0]:.1f} | "
        f"{statistics.median(ours_took):.2f} | {statistics.median(ratios):.2f} | "
        f"{min(ratios):.2f} to {max(ratios):.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grids", nargs="+", default=["6x10x15"], help="FxHxW in tokens")
    parser.add_argument("--heads", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| tokens | heads | published, MiB | here, MiB | ratio | here, s | speed | least to most |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for text in given.grids:
        print(row(TokenGrid(*map(int, text.split("x"))), given.heads, given.pairs), flush=True)


if __name__ == "__main__":
    main()
