"""Which plan a model is loaded by, and how it is kept then.

Its bytes are counted on its architecture, which has no weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from ditflow.models.base import Model, ModelError
from ditflow.models.presets import recommended
from ditflow.models.spec import ModelSpec
from ditflow.models.weights.budget import bytes_of
from ditflow.models.weights.memory import bytes_in, free_memory
from ditflow.models.weights.offload import offload_blocks
from ditflow.models.weights.plan import LEFT, Chosen, Kind, Plan, Weights, choose, eight_bits
from ditflow.models.weights.quantised import bytes_of_layer, is_here
from ditflow.models.weights.turns import Turns
from ditflow.models.weights.work import Activations, Work


def chosen(
    sketch: Model,
    memory: int | float | str,
    device: torch.device,
    work: Work | None,
    quantised: Kind | None,
    numbers: Mapping[str, Counter[str]],
) -> Chosen:
    """The plan of a model that is sketched in its dtype, whose parts have so many `numbers`.

    It takes so much `memory` of a device, or what is free there if that is less. Raises ModelError
    where nothing fits, and for a `memory` that is no amount.
    """
    spec = sketch.spec
    work = updates(spec) if work is None else work
    free = free_memory(device)
    most = bytes_of(memory)
    if free is not None:
        most = min(most, round(free / (1 - LEFT)))
    if quantised is None and (spec.loras or not is_here()):
        quantised = "none"
    activations = Activations.of(spec, sketch.kept, sketch.dtype, work)
    return choose(
        spec.name,
        most,
        weights_of(sketch, numbers),
        activations,
        work,
        quantised,
        turns=device.type != "cpu",
    )


def updates(spec: ModelSpec) -> Work:
    """One clip of the model's own size, optimised as recommended."""
    advice = recommended(spec)
    rotary = spec.position == "rotary" and advice.variable != "latents"
    return Work(spec.size, depth=advice.block + 1, rotary=rotary)


def keep(model: Model, plan: Plan) -> None:
    """Keep a model as planned, whose transformers wait on the CPU."""
    model.checkpointing = plan.checkpointing
    if model.device.type == "cpu":
        return
    if plan.offload:
        model.moves_experts = False
        for expert in model.experts:
            offload_blocks(expert, model.layout.all_blocks(expert), model.device)
    model.turns = Turns(model, offloaded=plan.offload)


def check_whole_weights(quantised: Kind | None, spec: ModelSpec) -> None:
    """Raise ModelError where a LoRA is to be merged into quantised weights."""
    if eight_bits(quantised) and spec.loras:
        raise ModelError(
            f"a LoRA is merged into whole weights, and {quantised} ones were asked for: leave one "
            "of them out."
        )


def around(transformer: Any, blocks: Collection[str]) -> list[str]:
    """The modules around the blocks, which are in lists of these names."""
    return [name for name, _ in transformer.named_children() if name not in blocks]


def weights_of(model: Model, numbers: Mapping[str, Counter[str]] | None = None) -> Weights:
    """The bytes of a sketched model. `numbers` are those of all its parts, by type.

    Quantised weights are int8, unless its spec says fp8.
    """
    transformer, dtype, kind = model.transformer, model.dtype, model.spec.quantised or "int8"
    wide, width = _keeps_single(transformer, dtype), dtype.itemsize
    every = model.layout.all_blocks(transformer)
    whole, each = _bytes(transformer, dtype, wide), _bytes(every[0], dtype, wide)
    quantised = each
    for name, layer in every[0].named_modules():
        if isinstance(layer, nn.Linear) and not wide.intersection(name.split(".")):
            quantised += bytes_of_layer(layer, kind) - layer.weight.numel() * width
    sizes = {part: bytes_in(counts, width) for part, counts in (numbers or {}).items()}
    encoders = sum(size for part, size in sizes.items() if not part.startswith("transformer"))
    rest = whole - len(every) * each
    return Weights(len(every), each, quantised, rest, encoders, len(model.experts))


def _keeps_single(transformer: Any, dtype: torch.dtype) -> set[str]:
    """Names of what diffusers loads in float32, whatever the dtype."""
    return set(transformer._keep_in_fp32_modules or ()) if dtype.itemsize < 4 else set()


def _bytes(module: nn.Module, dtype: torch.dtype, wide: Collection[str]) -> int:
    single = torch.float32.itemsize
    return sum(
        weight.numel() * (single if set(name.split(".")) & set(wide) else dtype.itemsize)
        for name, weight in module.named_parameters()
    )
