"""A Wan transformer that begins with what a CogVideoX transformer has learnt.

Both have blocks of self-attention and a feed-forward layer between modulated norms, so that most
weights have a place in the other. What differs is begun anew or approximated, and learnt again
soon: where attention finds things takes longest to learn, and is carried over.
"""

# D head dim, A heads, P pairs of channels that turn together
from __future__ import annotations

from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel, WanTransformer3DModel
from torch import Tensor, nn
from torch.nn import functional

TIMES = 20  # time steps whose mean modulation is carried over
# Pairs of channels in the order of Wan's axes, as pairs of CogVideoX's, for 32 channels a head.
# CogVideoX has 4, 6 and 6 pairs for time, rows and columns, Wan has 6, 5 and 5: the slowest of rows
# and columns go to time.
PAIRS = [0, 1, 15, 2, 3, 9, *range(4, 9), *range(10, 15)]


@torch.no_grad()
def carried(old: CogVideoXTransformer3DModel, new: WanTransformer3DModel) -> WanTransformer3DModel:
    """`new` with the weights of `old`, whose numbers of blocks, heads and channels it shares.

    Text has no influence at first: cross-attention begins with an output of 0.
    """
    time = functional.silu(old.time_embedding(old.time_proj(torch.linspace(0, 999, TIMES))))
    new.patch_embedding.weight.copy_(old.patch_embed.proj.weight[:, :, None])
    new.patch_embedding.bias.copy_(old.patch_embed.proj.bias)
    nn.init.zeros_(new.condition_embedder.time_proj.weight)
    nn.init.zeros_(new.condition_embedder.time_proj.bias)
    for before, block in zip(old.transformer_blocks, new.blocks, strict=True):
        parts = [
            part
            for norm in (before.norm1, before.norm2)
            for part in _modulation(norm.linear(time).mean(0).chunk(6)[:3], norm.norm)
        ]
        block.scale_shift_table.copy_(torch.stack(parts)[None])
        _carry_attention(before.attn1, block.attn1)
        block.ffn.load_state_dict(before.ff.state_dict())
        nn.init.zeros_(block.attn2.to_out[0].weight)
        nn.init.zeros_(block.attn2.to_out[0].bias)
    shift, scale, _ = _modulation(
        (*old.norm_out.linear(time).mean(0).chunk(2), time[0]), old.norm_out.norm
    )
    new.scale_shift_table.copy_(torch.stack([shift, scale])[None])
    for name in ("weight", "bias"):  # (C, 2, 2) outputs of a token become (2, 2, C)
        values = getattr(old.proj_out, name).unflatten(0, (-1, 2, 2)).movedim(0, 2)
        getattr(new.proj_out, name).copy_(values.flatten(0, 2))
    return new


def _modulation(parts: Any, norm: nn.LayerNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Shift, scale and gate after a norm without weights, of those after one that has them."""
    shift, scale, gate = parts
    return norm.bias * (1 + scale) + shift, norm.weight * (1 + scale) - 1, gate


def _carry_attention(old: Any, new: Any) -> None:
    """The norm over each head, which subtracts a mean, becomes one over all heads, which does
    not: the mean is taken out of the weights."""
    heads = new.heads
    order = torch.tensor([2 * pair + one for pair in PAIRS for one in (0, 1)])
    for name in ("q", "k"):
        before, layer = getattr(old, f"to_{name}"), getattr(new, f"to_{name}")
        for part in ("weight", "bias"):
            values = getattr(before, part).unflatten(0, (heads, -1))  # (A, D, ...)
            values = values - values.mean(1, keepdim=True)
            getattr(layer, part).copy_(values[:, order].flatten(0, 1))
        norm = getattr(old, f"norm_{name}").weight[order]
        getattr(new, f"norm_{name}").weight.copy_(norm.repeat(heads))
    new.to_v.load_state_dict(old.to_v.state_dict())
    new.to_out[0].load_state_dict(old.to_out[0].state_dict())
