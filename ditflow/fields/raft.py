"""Optical flow by RAFT (Teed and Deng, ECCV 2020), from torchvision, which is not required."""

# C channels, Y X pixel rows and columns; displacements are (dx, dy) in pixels, x right, y down

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ditflow.fields.field import FieldError, resized
from ditflow.fields.following import Flow

LEAST, MULTIPLE = 128, 8  # pixels of a side that the model reads


def raft_flow() -> Flow:
    """The flow between two frames uint8 (C, Y, X) that torchvision's small model measures.

    Its weights are those that torchvision's cache has; nothing is downloaded. Raises FieldError
    where torchvision or the weights are missing.
    """
    try:
        library: Any = import_module("torchvision.models.optical_flow")
    except ImportError as error:
        raise FieldError(
            "source 'raft' needs torchvision, which is not installed: pip install "
            "torchvision, or use source 'dis'."
        ) from error
    path = _cached(library.Raft_Small_Weights.DEFAULT.url)
    if not path.is_file():
        raise FieldError(
            f"the weights of raft_small are missing at {path}. Put torchvision's file there, or "
            "use source 'dis'."
        )
    model = library.raft_small(weights=None, progress=False)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return flow_of(model.eval())


def flow_of(model: Any) -> Flow:
    """The flow that a model of torchvision measures, between frames of any size."""

    @torch.no_grad()
    def flow(first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        sides = _side(height), _side(width)
        before, after = (resized(f[None].float() / 127.5 - 1, sides) for f in (first, second))
        measured = resized(model(before, after)[-1].float(), (height, width))[0]
        ratio = torch.tensor([width / sides[1], height / sides[0]])
        return measured.cpu() * ratio[:, None, None]

    return flow


def _side(pixels: int) -> int:
    return max(LEAST, -(-pixels // MULTIPLE) * MULTIPLE)


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
