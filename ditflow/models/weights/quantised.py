"""Frozen weights in eight bits, by diffusers' own configuration for torchao.

Weights alone are quantised, those of the linear layers in the blocks: each row has a scale of its
own (absolute maximum). A product takes activations and weights in the model's dtype, so gradients
flow to what goes in, and are those of a model with the rounded weights. What is around the blocks
is small and stays whole.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from typing import Any

import diffusers
from torch import nn

INT8_ROW, FP8_ROW = 4 + 1, 4  # bytes for each row: its scale, and of int8 a zero point


def is_here() -> bool:
    """Whether torchao is installed."""
    return find_spec("torchao") is not None


def loaded_as(kind: str, around: Collection[str]) -> dict[str, Any]:
    """What `from_pretrained` of diffusers is given for "int8" or "fp8" weights everywhere but in
    the modules `around` the blocks. Raises ModuleNotFoundError without torchao.
    """
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    how = Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig()
    config = diffusers.TorchAoConfig(how, modules_to_not_convert=list(around))
    return {"quantization_config": config}


def bytes_of_layer(layer: nn.Linear, kind: str) -> int:
    """What the weights of a quantised layer take, without its bias."""
    row = INT8_ROW if kind == "int8" else FP8_ROW
    return layer.weight.numel() + row * layer.out_features
