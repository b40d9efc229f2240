"""What the phases of a fit do, against what this machine can: a roofline row for each.

    python -m tests.benchmarks.roofline tiny-rope

Multiplications and additions are counted by torch, and bytes are those that its operations read and
write, if nothing stays in a cache from one operation to the next: views are free, and an operation
that torch fuses counts as one. The ceilings are the fastest product of two matrices and the fastest
copy of a large tensor, in the same run and number of threads. A phase can be no faster than its
operations at the one, and its bytes at the other; the last column is that time as a share of
the measured one. It may be above 1 where a cache saves bytes. Times are processor time of one
thread, the fastest of several, taken in turns with the ceilings.

Then the same with the same tensors as published, written plainly: all blocks run, the weights have
gradients, and the loss keeps all scores and a table of displacements (`tests/flow.py`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    FlopCounterMode,
    conv_flop_count,
    sdpa_flop_count,
)

from ditflow.core.sizes import VideoSize
from ditflow.core.tokens import Recording
from ditflow.models import Model, load_backbone
from ditflow.models.presets import recommended
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.control import Inputs, Prompt
from ditflow.sampling.key_value import reference_key_value
from ditflow.sampling.optimise import guide
from ditflow.sampling.recipe import Choices
from ditflow.sampling.reference import motion_of, reference_motion
from ditflow.sampling.state import start
from tests.flow import published, published_loss

WIDE, LONG = 1536, 2**26  # rows of a matrix, numbers of a copy
REPEATS = 5
Work = Callable[[], object]


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Five products of the size of the forward pass's two: scores again, and four gradients."""
    return int(2.5 * sdpa_flop_count(query, key, value))


def _convolution(inputs: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return int(conv_flop_count(inputs, weight, out_shape))


def _added_products(_: Any, left: Any, right: Any, *__: Any, **___: Any) -> int:
    rows, within, columns = left[1], left[2], right[2]
    return int(2 * left[0] * rows * within * columns)


BESIDES = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    torch.ops.aten.mkldnn_convolution: _convolution,
    torch.ops.aten.baddbmm_: _added_products,
}
"""Products that torch does not count by itself."""


class Moved(TorchDispatchMode):
    """Counts the bytes that operations read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            leaves = tree_leaves((args, kwargs, result))
            self.bytes += sum(_size(x) for x in leaves if isinstance(x, Tensor))
        return result


def _size(tensor: Tensor) -> int:
    """Bytes that a tensor holds; a row that is expanded is read once."""
    numbers = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        numbers *= length if stride else 1
    return numbers * tensor.element_size()


@dataclass
class Phase:
    """A phase, once: operations, bytes, and processor seconds."""

    work: Work
    operations: float = 0.0
    moved: float = 0.0
    times: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return min(self.times)

    def count(self) -> None:
        with FlopCounterMode(display=False, custom_mapping=BESIDES) as counter:
            self.work()
        with Moved() as moved:
            self.work()
        self.operations, self.moved = float(counter.get_total_flops()), float(moved.bytes)

    def time(self) -> None:
        began = time.process_time()
        self.work()
        self.times.append(time.process_time() - began)


def phases(model: Model, size: VideoSize | None = None) -> dict[str, Phase]:
    """Of one clip, as recommended: one of each phase. `size` None is the model's own."""
    recipe, spec, names = Choices().on(model), model.spec, ["clip"]
    state = start(model, size or spec.size, names, [0])
    text, video = model.embed(["red clouds"]), state.noise
    signal, step = recipe.guidance.signal, recipe.schedule[recipe.window.start]
    assert signal is not None
    reference = reference_motion(model, signal, video, text, names, noise=state.noise)
    motion = motion_of(model, signal, reference, state.noise, step)
    variable = recipe.guidance.kind.start(model, video)
    inputs, prompt = Inputs(video), Prompt(text, text)

    def update() -> object:
        one = Choices(inner_steps=1).on(model).guidance
        return guide(model, one, variable, inputs, step, 0.01, prompt, motion)

    def denoised() -> object:
        with torch.no_grad(), model.tapped():
            return model.guided(video, step, text, text)

    def looked() -> object:
        return reference_motion(model, signal, video, text, names, noise=state.noise)

    blocks = (0,)  # as published
    return {
        "text, a prompt": Phase(lambda: model.embed(["red clouds"])),
        "look at the reference": Phase(looked),
        "keys and values, a step": Phase(
            lambda: reference_key_value(model, video, state.noise, step, text, blocks)
        ),
        f"update, to block {recommended(spec).block}": Phase(update),
        "denoising, a step": Phase(denoised),
        "decode, a video": Phase(lambda: model.decode(video)),
    }


def as_published(model: Model) -> dict[str, Phase]:
    """The phases that the published formulation does otherwise, plainly written."""
    spec, guidance = model.spec, Choices().on(model).guidance
    state, text = start(model, spec.size, ["clip"], [0]), model.embed(["red clouds"])
    video, grid, signal = state.noise, spec.compression.grid(spec.size), guidance.signal
    assert isinstance(signal, AttentionMotionFlow)
    block = signal.read_block

    def seen(**how: bool) -> Recording:
        with model.tapped([block], **how) as recording:
            model.predict(video, 0, text)
        return recording

    with torch.no_grad():
        wanted = signal.reference(seen(), grid)
    parameter = guidance.kind.start(model, video).parameter

    def update() -> None:
        places = parameter.clone().requires_grad_()
        model.transformer.requires_grad_(True)
        with model.tapped([block]) as recording:
            model.predict(video, 500, text, guidance.kind.at(model, places).position)
            query, key = recording.query[block], recording.key[block]
            flow = published(query, key, grid, signal.temperature)
            published_loss(flow, wanted).sum().backward()
        model.transformer.requires_grad_(False).zero_grad()
        torch.optim.Adam([places], lr=0.01).step()

    def looked() -> None:
        with torch.no_grad():
            signal.reference(seen(), grid)

    return {"look at the reference": Phase(looked), "update": Phase(update)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model")
    model = load_backbone(parser.parse_args().model, device="cpu")
    matrix, long = torch.randn(WIDE, WIDE), torch.randn(LONG)
    into = torch.empty_like(long)
    product = Phase(lambda: matrix @ matrix, operations=2.0 * WIDE**3)
    copy = Phase(lambda: into.copy_(long), moved=2.0 * long.nbytes)
    found, theirs = phases(model), as_published(model)
    for phase in (*found.values(), *theirs.values()):
        phase.count()
    for _ in range(REPEATS):
        for phase in (product, copy, *found.values(), *theirs.values()):
            phase.time()
    peak, band = product.operations / product.seconds, copy.moved / copy.seconds
    print(f"products {peak / 1e9:.0f} Gop/s, copies {band / 1e9:.1f} GB/s: ", end="")
    print(f"both at {peak / band:.1f} operations a byte")
    print("| phase | Gop | GB | op/B | bound by | bound, ms | measured, ms | of the bound |")
    print("|---|---|---|---|---|---|---|---|")
    for name, phase in found.items():
        at = phase.operations / peak, phase.moved / band
        bound = max(at)
        cells = [
            f"{phase.operations / 1e9:.3g}",
            f"{phase.moved / 1e9:.3g}",
            f"{phase.operations / phase.moved:.1f}",
            "products" if at[0] > at[1] else "memory",
            f"{1000 * bound:.1f}",
            f"{1000 * phase.seconds:.1f}",
            f"{bound / phase.seconds:.2f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print("| phase | Gop as published | here | published, ms | times as fast | least to most |")
    print("|---|---|---|---|---|---|")
    for name, phase in theirs.items():
        own = next(one for key, one in found.items() if key.startswith(name))
        ratios = [there / here for there, here in zip(phase.times, own.times, strict=True)]
        cells = [
            f"{phase.operations / 1e9:.3g}",
            f"{own.operations / 1e9:.3g}",
            f"{1000 * phase.seconds:.1f}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
