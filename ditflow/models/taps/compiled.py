"""Blocks of a transformer that `torch.compile` has compiled, and that rotate by themselves.

Dynamo tells functions that are put on a module apart by their address, so a hook inside of a block
would have each block compiled again, at each step. A compiled block carries none. The processor of
its self-attention is wrapped once, and rotates as a tap does, by a position in the call. While a
block does carry hooks inside, such as those that record or inject, it runs as it is: hooks are
always heard. All blocks share what is compiled, once with gradients and once without.
"""

# B batch (b: 1 or B), N video tokens, A heads, D head dim, E hidden dim

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ditflow.core.positions import Side
from ditflow.models.loading import ModelError
from ditflow.models.taps.layout import Layout, rotated

Backend = str | Callable[..., Any]


def check_compiler(device: torch.device) -> None:
    """Compile a sum on a device. Raises ModelError where that cannot be done."""
    try:
        torch.compile(_sum)(torch.zeros(2, device=device))
    except Exception as error:  # of any kind, by what is missing
        said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        needs = "a C++ compiler" if device.type == "cpu" else "Triton and a C compiler"
        raise ModelError(
            f"the model cannot be compiled for {device.type} ({said}): install {needs}, such as "
            "g++, or leave out compile."
        ) from error


def _sum(values: Tensor) -> Tensor:
    return values + 1


def compile_blocks(transformer: nn.Module, layout: Layout, backend: Backend = "inductor") -> None:
    """Compile the blocks of a transformer, each where it first runs, for as long as it lives."""
    for index, block in enumerate(layout.all_blocks(transformer)):
        attention: Any = block.get_submodule(layout.attention)
        attention.processor = Rotating(attention.processor, layout)
        copied = 0 if index else 2 if layout.text_first else 1
        vars(block)["forward"] = _Compiled(block, backend, copied)


class _Compiled:
    """In the place of a block's `forward`: hooks of the block itself are around it.

    So many inputs of the first block are copied: tokens, which enter the others as outputs of a
    block. Then strides, views and gradients are alike in all blocks, and one code serves them.
    """

    def __init__(self, block: nn.Module, backend: Backend, copied: int) -> None:
        self.block, self.stock, self.copied = block, type(block).forward, copied
        self.compiled = torch.compile(self.stock, backend=backend)
        self.signature = inspect.signature(block.forward)
        self.inside = [module for module in block.modules() if module is not block]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = self.signature.bind(*args, **kwargs).args
        if any("forward" in vars(module) for module in self.inside):
            return self.stock(self.block, *inputs)
        needs = torch.is_grad_enabled() and any(
            isinstance(value, Tensor) and value.requires_grad for value in inputs
        )
        tokens = (_copy(tokens, requires_grad=needs) for tokens in inputs[: self.copied])
        return self.compiled(self.block, *tokens, *inputs[self.copied :])


def _copy(tokens: Tensor, *, requires_grad: bool) -> Tensor:
    copy = tokens.clone(memory_format=torch.contiguous_format)
    return copy if copy.requires_grad else copy.requires_grad_(requires_grad)


class Rotating:
    """In the place of an attention's processor, which it calls, here with norms that rotate."""

    def __init__(self, stock: Any, layout: Layout) -> None:
        self.stock, self.layout = stock, layout

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        rotary = rotary_emb if image_rotary_emb is None else image_rotary_emb
        inputs = hidden_states, encoder_hidden_states, attention_mask
        if not isinstance(rotary, Tensor):
            return self.stock(attn, *inputs, rotary)
        text = 0
        if self.layout.text_first and encoder_hidden_states is not None:
            text = encoder_hidden_states.shape[1]
        return self.stock(_Rotated(attn, self.layout, rotary, text), *inputs, None)


class _Rotated:
    """An attention as its processor sees it, whose query and key norms rotate video tokens."""

    def __init__(self, attention: Any, layout: Layout, rotary: Tensor, text: int) -> None:
        self.attention, self.layout, self.rotary, self.text = attention, layout, rotary, text

    def __getattr__(self, name: str) -> Any:
        return getattr(self.attention, name)

    def norm_q(self, tokens: Tensor) -> Tensor:
        return self._turned(self.attention.norm_q(tokens), side=0)

    def norm_k(self, tokens: Tensor) -> Tensor:
        return self._turned(self.attention.norm_k(tokens), side=1)

    def _turned(self, output: Tensor, side: Side) -> Tensor:
        tokens = self.layout.tokens_of(output, self.attention.heads)
        text, video = tokens[:, : self.text], tokens[:, self.text :]
        turned = rotated(video, self.rotary, side)
        return self.layout.as_norms(torch.cat([text, turned], dim=1))
