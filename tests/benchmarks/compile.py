"""What compiled blocks save on an embedded model: paired passes, with and without gradients.

    python -m tests.benchmarks.compile tiny-rope tiny-wan

Each pair runs a model and the same model compiled, in an order that alternates, and compares their
processor time. A pass is one of denoising, with positions that moved; an update goes as far as the
block that is read, and back to the positions, with the gradient of attention motion flow. The
last column is the processor time of the first run, which compiles, with that of the compilers it
starts.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from ditflow.models import Model, load_backbone
from ditflow.models.presets import recommended
from ditflow.motion import AttentionMotionFlow

Run = Callable[[], object]


def inputs_of(model: Model) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, text and a position that is not the model's own, of one clip."""
    draw, spec = torch.Generator().manual_seed(0), model.spec
    latents = torch.randn(1, *spec.compression.latent_shape(spec.size), generator=draw)
    text = torch.randn(1, spec.text_tokens, spec.text_channels, generator=draw)
    return latents, text, model.stock_position(spec.compression.grid_of(latents)) + 0.01


def pass_of(model: Model) -> Run:
    """One pass of denoising."""
    latents, text, position = inputs_of(model)

    @torch.no_grad()
    def run() -> None:
        with model.tapped():
            model.predict(latents, 500, text, position)

    return run


def update_of(model: Model) -> Run:
    """A loss of the position, and its gradient."""
    latents, text, position = inputs_of(model)
    signal = AttentionMotionFlow(recommended(model.spec).block)
    grid = model.spec.compression.grid_of(latents)
    with torch.no_grad(), model.tapped(signal.capture, stop_early=True) as seen:
        model.predict(latents.flip(1), 500, text)
        motion = signal.reference(seen, grid)
    position.requires_grad_()

    def run() -> None:
        with model.tapped(signal.capture, stop_early=True) as seen:
            model.predict(latents, 500, text, position)
            torch.autograd.grad(signal.loss(seen, grid, motion).sum(), position)

    return run


def used() -> float:
    """Processor time of this process, and of those that it started and that have ended."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def seconds(run: Run, times: int = 1) -> float:
    began = used()
    for _ in range(times):
        run()
    return used() - began


def pair(compiled: Run, stock: Run, times: int, first: bool) -> float:
    """The ratio of compiled runs to stock ones, which come `first` or second."""
    before = seconds(stock, times) if first else 0.0
    ours = seconds(compiled, times)
    return ours / (before if first else seconds(stock, times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--times", type=int, default=10, help="runs in each half of a pair")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.models:
        stock, compiled = (load_backbone(name, device="cpu", compile=on) for on in (False, True))
        for label, make in (("pass", pass_of), ("update", update_of)):
            plain, ours = make(stock), make(compiled)
            seconds(plain)  # the first call of a process is slower
            compiling = seconds(ours)
            ratios = [pair(ours, plain, given.times, bool(i % 2)) for i in range(given.pairs)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            told = f"{middle:.3f} | {low:.3f} to {high:.3f} | {given.pairs} | {compiling:.0f} s"
            print(f"| `{name}` | {label} | {told} |", flush=True)


if __name__ == "__main__":
    main()
