"""Compiled blocks compute what the stock ones do, and are compiled once for each mode.

No machine code is made, so no C++ compiler is needed: a captured graph runs as it is, or, of one
model, after all of the compiler's own changes to it, which add in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend

from ditflow.bank import BankEntry
from ditflow.models import Model, ModelError, load_backbone
from ditflow.models.taps import check_compiler
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.guidance import MotionGuidance
from ditflow.transfer import inject_motion, transfer_motion
from tests.clips import clip_of
from tests.closeness import assert_close_in_norm
from tests.registry import grid_of, tiny_backbone, tiny_folder
from tests.tapped import BLOCK, latents_of, sequential_offload, text_of

RATE = 0.1  # what an update of Adam may change
KINDS = {  # variable, compiler, and how many clips are moved at once
    "rotary": ("rotary_positions", "aot_eager", 2),
    "sinusoidal": ("sinusoidal", "eager", 1),
    "wan22-experts": ("rotary_tables", "eager", 1),
}


@dataclass
class Pair:
    """A model whose blocks are compiled, the same as it is, and how often was compiled."""

    compiled: Model
    stock: Model
    variable: str
    counter: CompileCounterWithBackend
    clips: int


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    torch._dynamo.reset()
    variable, compiler, clips = KINDS[request.param]
    counter = CompileCounterWithBackend(compiler)
    compiled, stock = tiny_backbone(request.param), tiny_backbone(request.param)
    compiled.compile(counter)
    yield Pair(compiled, stock, variable, counter, clips)
    torch._dynamo.reset()


def entry_of(model: Model, variable: str, seed: int, **changed: Any) -> BankEntry:
    """Of two guided steps of four, which take the keys and values of the first block."""
    guidance = MotionGuidance(
        AttentionMotionFlow(BLOCK),
        variable,
        window=0.5,
        learning_rate=(RATE, RATE / 2),
        inner_steps=2,
        injection_blocks=(0,),
    )
    guidance = replace(guidance, **changed)
    options: dict[str, Any] = {"steps": 4, "motion_guidance": guidance}
    return transfer_motion(model, clip_of(seed), "a cat", seed=seed, **options).entry


def test_steps_and_clips_are_those_of_the_stock_blocks_and_compile_once(pair: Pair) -> None:
    """Once with gradients and once without, over all updates, guided and plain steps, both passes
    of guidance, two clips, checkpointing, both experts, and an entry given to a new video.
    """
    for seed, checkpointing in ((0, False), (1, True)):
        entries = [
            entry_of(model, pair.variable, seed, checkpointing=checkpointing)
            for model in (pair.compiled, pair.stock)
        ]
        ours, stock = entries
        for one, other in zip(ours.parameters, stock.parameters, strict=True):
            assert_close_in_norm(one.float(), other.float(), largest=RATE)
    videos = [inject_motion(model, stock, "a dog") for model in (pair.compiled, pair.stock)]
    assert (videos[0].int() - videos[1].int()).abs().max() <= 1  # rounded to whole numbers
    assert pair.counter.frame_count == 2


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("stop_early", [False, True])
def test_gradients_are_those_of_the_stock_blocks(
    pair: Pair, checkpointing: bool, stop_early: bool
) -> None:
    """But for the rounding of some hundred products, some ten times 6e-8."""

    def gradients(model: Model) -> tuple[Tensor, ...]:
        latents = latents_of(model, 1).requires_grad_()
        position = model.stock_position(grid_of(model)).clone().requires_grad_()
        with model.tapped([BLOCK], stop_early=stop_early, checkpointing=checkpointing) as recording:
            model.predict(latents, 900, text_of(model, 1), position)
            loss = (recording.query[BLOCK] * recording.key[BLOCK].flip(1)).sin().sum()
            return torch.autograd.grad(loss, [latents, position])

    for ours, stock in zip(gradients(pair.compiled), gradients(pair.stock), strict=True):
        assert (ours - stock).norm() <= 1e-5 * stock.norm()
    assert pair.counter.frame_count == 2


def output_of(model: Model, batch: int = 1, position: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        output = model.predict(latents_of(model, batch), 900, text_of(model, batch), position)
    assert output is not None
    return output


def test_blocks_that_record_or_inject_run_as_they_are(pair: Pair) -> None:
    seen = []
    for model in (pair.compiled, pair.stock):
        with torch.no_grad(), model.tapped([BLOCK], [0, 3], [1]) as recording:
            outputs = [output_of(model)]
        pairs = {1: (recording.key[BLOCK], recording.value[BLOCK])}
        with model.tapped(key_value=pairs):
            outputs.append(output_of(model))
        parts = ("query", "key", "value", "text_query", "text_key", "features")
        recorded = [getattr(recording, part) for part in parts]
        seen.append([*outputs, *(one[block] for one in recorded for block in sorted(one))])
    ours, stock = seen
    assert len(ours) == len(stock) >= 9
    for one, other in zip(ours, stock, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()
    assert not torch.equal(stock[0], stock[1])


def test_a_position_is_seen_in_compiled_blocks(pair: Pair) -> None:
    """Each clip its own, queries another than keys; None is the model's own again. Another number
    of clips is compiled anew.
    """
    own = pair.stock.stock_position(grid_of(pair.stock))
    noise = torch.randn(pair.clips, *own.shape[1:], generator=torch.Generator().manual_seed(0))
    outputs = []
    for model in (pair.compiled, pair.stock):
        with model.tapped():
            positions = own + 0.1 * noise, None, own
            outputs.append([output_of(model, pair.clips, position) for position in positions])
    for ours, stock in zip(*outputs, strict=True):
        assert (ours - stock).norm() <= 1e-5 * stock.norm()
    moved, plain, same = outputs[0]
    assert torch.equal(plain, same) and not torch.equal(plain, moved)
    assert pair.counter.frame_count == 1 + pair.clips


def test_blocks_under_offload_run_as_they_are() -> None:
    """Their weights come layer by layer, by hooks inside of them."""
    model, counter = tiny_backbone("rotary"), CompileCounter()
    expected = output_of(model)
    model.compile(counter)
    sequential_offload(model.transformer)
    off = output_of(model) - expected
    assert off.norm() <= 1e-5 * expected.norm()
    assert counter.frame_count == 0


def test_without_a_compiler_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(function: Any) -> Any:
        def run(*_: Any) -> None:
            raise RuntimeError("No working C++ compiler found in cxx: (None, 'g++')\n\nmore")

        return run

    monkeypatch.setattr(torch, "compile", fails)
    said = (
        r"^the model cannot be compiled for cpu \(No working C\+\+ compiler found in cxx: "
        r"\(None, 'g\+\+'\)\): install a C\+\+ compiler, such as g\+\+, or leave out compile\.$"
    )
    with pytest.raises(ModelError, match=said):
        load_backbone(str(tiny_folder("rotary")), device="cpu", compile=True)
    with pytest.raises(ModelError, match="for cuda .*: install Triton and a C compiler"):
        monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
        check_compiler(torch.device("cuda"))
