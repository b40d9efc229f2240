"""Backbones by name: a shipped one, a local diffusers folder, or a hub id."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ditflow.models.base import Model, ModelError, ModelSpec
from ditflow.models.dtypes import default_dtype, warn_if_emulated
from ditflow.models.families.cogvideox import CogVideoX
from ditflow.models.families.wan import Wan
from ditflow.models.spec import Lora
from ditflow.models.taps import check_compiler
from ditflow.models.weights import lora as loras
from ditflow.models.weights.files import (
    NEEDED,
    check_is_folder,
    check_parts,
    check_text_encoder,
    check_weights,
    check_whole,
    has_weights,
    parts_of,
)
from ditflow.models.weights.hub import INDEX, hub_index
from ditflow.models.weights.memory import check_fits, numbers_of
from ditflow.resources import shipped

MODELS: dict[str, type[Model]] = {  # by the class of their transformer
    "CogVideoXTransformer3DModel": CogVideoX,
    "WanTransformer3DModel": Wan,
}


def load_backbone(
    name: str,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    lora: str | Sequence[str] = (),
    compile: bool = False,
) -> Model:
    """Load a frozen backbone.

    `name` is that of a shipped backbone, a folder in diffusers format, or a hub id. `device` None
    takes the first GPU if there is one. `dtype` None takes float32 on a CPU, and on a GPU bfloat16
    if it has instructions for that, else float32; a dtype can be given by name. Warns of one that
    the device emulates. `lora` names files of LoRAs, "PATH" or "PATH:SCALE", which are merged into
    the transformer; where there are two, into both, or after "high=" or "low=" into the one for
    much or for little noise. With `compile` its blocks are compiled where they first run, once with
    gradients and once without. Raises ModelError where nothing usable is found, too little memory
    is free, or nothing compiles.
    """
    device = torch.device(
        device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    )
    folder, index, family = _found(name)
    wanted, given, parts = _dtype(dtype, device), loras.named(lora), parts_of(index)
    warn_if_emulated(name, wanted, device)
    spec = family.spec_in(folder, name)  # what configurations say comes before files
    _check(folder, family, spec, given, parts)
    check_fits(name, _numbers(folder, family, parts), device, wanted)
    if compile:
        check_compiler(device)
    model = family.load(folder, spec, device=device, dtype=wanted)
    for file, one in given:
        loras.merge(model.experts, file, one, family.pipelines[0])
    model.spec = replace(model.spec, loras=tuple(one for _, one in given))
    if compile:
        model.compile()
    return model


def sketch_backbone(
    name: str,
    *,
    device: torch.device | str = "meta",
    dtype: torch.dtype | str | None = None,
    blocks: int | None = None,
    lora: str | Sequence[str] = (),
) -> Model:
    """A backbone's architecture without its weights, which are not read: for its sizes, or random
    on a real device and so many blocks deep, to measure with. A LoRA is named, and not merged.

    Raises ModelError as `load_backbone` does, except about weights. Configurations alone, in a
    folder whose transformer has no weights, need no other part than their index names.
    """
    folder, index, family = _found(name)
    place, given = torch.device(device), loras.named(lora)
    model = family.sketch(
        folder, name=name, device=place, dtype=_dtype(dtype, place), blocks=blocks
    )
    bare = Path(folder).is_dir() and not has_weights(Path(folder))
    parts = parts_of(index, [part for part in NEEDED if part in index] if bare else NEEDED)
    _check(folder, family, model.spec, given, parts)
    model.spec = replace(model.spec, loras=tuple(one for _, one in given))
    return model


def backbone_spec(name: str) -> ModelSpec:
    """What a backbone is, by its configurations alone. Raises ModelError where there is none."""
    folder, _, family = _found(name)
    return family.spec_in(folder, name)


def _found(name: str) -> tuple[str, dict[str, Any], type[Model]]:
    """The folder or hub id of that name, its index and its family. Raises ModelError where there is
    none, and for a hub id that is no whole pipeline.
    """
    folder = str(shipped("checkpoints", name) or name)
    index = _model_index(folder, name)
    family = _family(index, name)
    if not Path(folder).is_dir():
        check_whole(name, index)
    return folder, index, family


def _check(
    folder: str,
    family: type[Model],
    spec: ModelSpec,
    given: Iterable[tuple[Path, Lora]],
    parts: Collection[str],
) -> None:
    """Raise ModelError for what neither is loaded nor planned, whatever its weights are."""
    loras.check_experts_of(spec, (one for _, one in given))
    if Path(folder).is_dir():
        check_parts(Path(folder), parts)
    if "text_encoder" in parts:
        check_text_encoder(folder, family.encoders_class.text_class)


def _numbers(folder: str, family: type[Model], parts: Collection[str]) -> dict[str, Counter[str]]:
    """How many numbers the parts have: of a folder by its files, of a hub id by its configurations,
    before anything is downloaded.
    """
    if Path(folder).is_dir():
        return check_weights(Path(folder), parts)
    classes = family.classes().items()
    return numbers_of(folder, {part: kind for part, kind in classes if part in parts})


def _family(index: Mapping[str, Any], name: str) -> type[Model]:
    """Raises ModelError for what is not supported, before anything is loaded."""
    supported = f"supported: {', '.join(MODELS)}."
    match index.get("transformer"):
        case [_, str(transformer)] if transformer in MODELS:
            return _of_pipeline(MODELS[transformer], index.get("_class_name"), name)
        case [_, transformer]:
            raise ModelError(
                f"backbone {name!r} has a transformer of class {transformer!r}; {supported}"
            )
        case _:
            raise ModelError(f"the {INDEX} of backbone {name!r} names no transformer; {supported}")


def _of_pipeline(family: type[Model], pipeline: object, name: str) -> type[Model]:
    """The family, unless it was saved by a pipeline that gives its transformer other things."""
    if isinstance(pipeline, str) and pipeline not in family.pipelines:
        raise ModelError(
            f"backbone {name!r} is of a {pipeline}, whose transformer takes other inputs; "
            f"supported: {', '.join(family.pipelines)}."
        )
    return family


def _model_index(folder: str, name: str) -> dict[str, Any]:
    check_is_folder(name)
    return _folder_index(Path(folder), name) if Path(folder).is_dir() else hub_index(name)


def _folder_index(folder: Path, name: str) -> dict[str, Any]:
    if not (folder / INDEX).is_file():
        raise ModelError(
            f"folder {name!r} is not a backbone: it has no {INDEX}. Give a folder that a "
            "diffusers pipeline was saved to."
        )
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the {INDEX} of backbone {name!r} cannot be read: {error}. Save or download the "
            "backbone again."
        ) from error
    if not isinstance(index, dict):
        raise ModelError(
            f"the {INDEX} of backbone {name!r} is not a JSON object. Save or download the "
            "backbone again."
        )
    return index


def _dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return default_dtype(device)
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError(f"unknown dtype {dtype!r}: give float32, bfloat16 or float16.")
    return found
