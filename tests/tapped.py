"""What the tests of taps look at: one forward pass of two clips; and offload."""

from __future__ import annotations

from typing import Any

import accelerate
import torch
from torch import Tensor, nn

from ditflow.models import Model
from tests.families import stock_output
from tests.registry import size_of

BLOCK = 2


def latents_of(backbone: Model, batch: int = 2) -> Tensor:
    return torch.randn(
        batch,
        *backbone.spec.compression.latent_shape(size_of(backbone)),
        generator=torch.Generator().manual_seed(3),
    )


def text_of(backbone: Model, batch: int = 2) -> Tensor:
    return torch.randn(
        batch, backbone.spec.text_tokens, 32, generator=torch.Generator().manual_seed(4)
    )


def predicted(backbone: Model, **arguments: Any) -> Tensor:
    with torch.no_grad():
        output = backbone.predict(latents_of(backbone), 500, text_of(backbone), **arguments)
    assert output is not None
    return output


def stock(backbone: Model) -> Tensor:
    return stock_output(backbone, latents_of(backbone), text_of(backbone))


def model_offload(transformer: nn.Module) -> None:
    accelerate.cpu_offload_with_hook(transformer, torch.device("cpu"))


def sequential_offload(transformer: nn.Module) -> None:
    accelerate.cpu_offload(transformer, torch.device("cpu"))
