"""Backbones by name: a shipped one, a local diffusers folder, or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ditflow.backbones.base import Backbone, BackboneError, BackboneSpec
from ditflow.backbones.cogvideox import CogVideoX
from ditflow.resources import shipped

BACKBONES: dict[str, type[CogVideoX]] = {"CogVideoXTransformer3DModel": CogVideoX}

__all__ = ["BACKBONES", "Backbone", "BackboneError", "BackboneSpec", "load_backbone"]


def load_backbone(name: str, *, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None) -> Backbone:
    """Load a frozen backbone.

    `name` is that of a shipped backbone, a folder in diffusers format, or a hub id. `device` None takes the first GPU if there is one, `dtype` None
    takes bfloat16 there and float32 on a CPU; a dtype can be given by name. Raises BackboneError where nothing usable is found.
    """
    device = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    folder = str(shipped("checkpoints", name) or name)
    return _family(folder, name).load(folder, name=name, device=device, dtype=_dtype(dtype, device))


def _family(folder: str, name: str) -> type[CogVideoX]:
    transformer = _model_index(folder, name).get("transformer", [None, None])[1]
    if transformer not in BACKBONES:
        raise BackboneError(f"backbone {name!r} has a transformer of class {transformer!r}; supported: {', '.join(BACKBONES)}.")
    return BACKBONES[transformer]


def _model_index(folder: str, name: str) -> dict[str, Any]:
    from diffusers import DiffusionPipeline

    if Path(folder).is_dir() and not (Path(folder) / "model_index.json").is_file():
        raise BackboneError(f"folder {name!r} is not a backbone: it has no model_index.json. Give a folder that a diffusers pipeline was saved to.")
    try:
        return dict(DiffusionPipeline.load_config(folder))
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"there is no backbone {name!r}: it is not a shipped one, not a folder here, and was not found on the hub ({type(error).__name__}). "
            "Check the name; without network, download it first and give its folder."
        ) from error


def _dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise BackboneError(f"unknown dtype {dtype!r}: give float32, bfloat16 or float16.")
    return found
