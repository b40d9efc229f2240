"""Frozen weights in eight bits: gradients are those of a model with the rounded weights.

What is computed differs by the order of roundings alone, so it is compared by norm, in float32 and
with float32's rounding through four blocks; int8 multiplies by a row's scale after the product.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from ditflow.models import Model, ModelError, load_backbone, sketch_backbone
from ditflow.models.weights.choice import weights_of
from ditflow.models.weights.plan import Plan
from ditflow.sampling.variables import VARIABLES
from tests.registry import tiny_folder
from tests.tapped import latents_of, text_of

pytest.importorskip("torchao")

BLOCK, CLOSE = 3, 1e-4
KINDS = ("int8", "fp8")
CASES = [
    *(("rotary", "latents"), ("rotary", "rotary_positions"), ("sinusoidal", "sinusoidal")),
    *(("wan", "rotary_tables"), ("wan", "latents")),
]


@cache
def quantised(kind: str, backbone: str, dtype: str = "float32") -> Model:
    name = str(tiny_folder(backbone))
    return load_backbone(name, device="cpu", dtype=dtype, quantised=kind)  # type: ignore[arg-type]


@cache
def rounded(kind: str, backbone: str) -> Model:
    """Whole weights that have the values of the quantised ones."""
    model = load_backbone(str(tiny_folder(backbone)), device="cpu")
    values = dict(quantised(kind, backbone).transformer.named_parameters())
    with torch.no_grad():
        for name, weight in model.transformer.named_parameters():
            weight.copy_(values[name].dequantize() if is_quantised(values[name]) else values[name])
    return model


def is_quantised(weight: Tensor) -> bool:
    return hasattr(weight, "qdata")


def loss(model: Model, variable: str, moved: Tensor, *, again: bool = False) -> Tensor:
    """Of a block's queries and keys, where what is optimised is so."""
    noise = latents_of(model)
    kind = VARIABLES[variable].start(model, noise).replaced(moved)
    with model.tapped([BLOCK], stop_early=True, checkpointing=again) as seen:
        model.predict(kind.latents(noise), 500, text_of(model), kind.position)
        found: Tensor = seen.query[BLOCK].sin().sum() + seen.key[BLOCK].cos().sum()
        if torch.is_grad_enabled():
            (found,) = torch.autograd.grad(found, moved)
    return found


def gradient(model: Model, variable: str, *, again: bool = False) -> Tensor:
    moved = VARIABLES[variable].start(model, latents_of(model)).parameter
    with torch.enable_grad():
        return loss(model, variable, moved.clone().requires_grad_(), again=again)


def off(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("backbone", "variable"), CASES)
def test_gradients_are_those_of_the_rounded_weights(
    kind: str, backbone: str, variable: str
) -> None:
    found = gradient(quantised(kind, backbone), variable)
    assert off(found, gradient(rounded(kind, backbone), variable)) < CLOSE
    whole = gradient(load_backbone(str(tiny_folder(backbone)), device="cpu"), variable)
    assert off(found, whole) > 10 * CLOSE  # the weights are not what they were


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backbone", ["rotary", "wan"])
def test_checkpointing_leaves_them_as_they_are(kind: str, backbone: str) -> None:
    model = quantised(kind, backbone)
    assert torch.equal(gradient(model, "latents", again=True), gradient(model, "latents"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_is_the_slope_of_the_loss(kind: str) -> None:
    """By a central difference along it. Its error is the square of the step, and float32's rounding
    of the loss divided by the step: here less than a hundredth.
    """
    model, variable, step = quantised(kind, "rotary"), "latents", 1e-2
    slope = gradient(model, variable)
    along = slope / slope.norm()
    begin = VARIABLES[variable].start(model, latents_of(model)).parameter
    with torch.no_grad():
        up, down = (loss(model, variable, begin + sign * step * along) for sign in (1, -1))
    assert float(up - down) / (2 * step) == pytest.approx(float(slope.norm()), rel=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backbone", ["rotary", "wan"])
def test_counted_bytes_are_those_that_are_there(kind: str, backbone: str, dtype: str) -> None:
    model = quantised(kind, backbone, dtype)
    sketch = sketch_backbone(str(tiny_folder(backbone)), dtype=dtype)
    sketch.spec = model.spec
    there = sum(map(nbytes, model.transformer.parameters()))
    assert Plan(kind).weights(weights_of(sketch)) == there  # type: ignore[arg-type]


def nbytes(weight: Tensor) -> int:
    if not is_quantised(weight):
        return weight.nbytes
    names, _ = weight.__tensor_flatten__()  # type: ignore[attr-defined]
    return sum(getattr(weight, name).nbytes for name in names)


@pytest.mark.parametrize("backbone", ["rotary", "wan"])
def test_what_is_around_the_blocks_stays_whole(backbone: str) -> None:
    model = quantised("int8", backbone)
    inside = {
        id(layer.weight)
        for block in model.layout.all_blocks(model.transformer)
        for layer in block.modules()
        if isinstance(layer, nn.Linear)
    }
    eight = {id(one) for one in model.transformer.parameters() if is_quantised(one)}
    assert eight == inside


def test_a_spec_says_what_its_weights_are_and_a_lora_is_refused(tmp_path) -> None:
    assert quantised("fp8", "wan").spec.quantised == "fp8"
    from tests.ditflow.models.weights.test_lora import lora_of

    lora = str(lora_of("rotary", tmp_path))
    with pytest.raises(ModelError, match="a LoRA is merged into whole weights, and int8 ones"):
        load_backbone(str(tiny_folder("rotary")), device="cpu", lora=lora, quantised="int8")
