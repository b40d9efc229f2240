"""Backbones by name: a shipped one, a local diffusers folder, or a hub id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ditflow.models.base import Model, ModelError, ModelSpec
from ditflow.models.dtypes import dtype_of, warn_if_emulated
from ditflow.models.families.cogvideox import CogVideoX
from ditflow.models.families.wan import Wan
from ditflow.models.spec import Lora
from ditflow.models.taps import check_compiler
from ditflow.models.weights import lora as loras
from ditflow.models.weights.choice import around, check_whole_weights, chosen, keep
from ditflow.models.weights.files import (
    NEEDED,
    check_is_folder,
    check_parts,
    check_text_encoder,
    check_weights,
    check_whole,
    folder_index,
    has_weights,
    parts_of,
)
from ditflow.models.weights.hub import INDEX, hub_index
from ditflow.models.weights.memory import check_fits, numbers_of
from ditflow.models.weights.plan import Chosen, Kind, eight_bits
from ditflow.models.weights.quantised import loaded_as
from ditflow.models.weights.work import Work
from ditflow.resources import shipped
from ditflow.warning import warn

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
    quantised: Kind | None = None,
    memory: int | float | str | None = None,
    work: Work | None = None,
    compile: bool = False,
) -> Model:
    """Load a frozen backbone.

    `name` is that of a shipped backbone, a folder in diffusers format, or a hub id. `device` None
    takes the first GPU if there is one. `dtype` None takes float32 on a CPU, and on a GPU bfloat16
    if it has instructions for that, else float32; a dtype can be given by name. Warns of one that
    the device emulates. `lora` names files of LoRAs, "PATH" or "PATH:SCALE", which are merged into
    the transformer; where there are two, into both, or after "high=" or "low=" into the one for
    much or for little noise.

    With a `memory`, such as "24GiB", the fastest plan that takes no more of the device is chosen
    and said: see `plan_backbone`. `quantised` weights are "int8" or "fp8", which needs torchao.
    With `compile` its blocks are compiled where they first run, once with gradients and once
    without. Raises ModelError where nothing usable is found, or nothing fits, or nothing compiles.
    """
    device = _device(device)
    folder, index, family = _found(name)
    wanted, given, parts = dtype_of(dtype, device), loras.named(lora), parts_of(index)
    warn_if_emulated(name, wanted, device)
    spec = family.spec_in(folder, name)  # what configurations say comes before files
    spec = replace(spec, loras=tuple(one for _, one in given))
    _check(folder, family, spec, given, parts)
    check_whole_weights(quantised, spec)
    plan, numbers = None, _numbers(folder, family, parts)
    if memory is not None:
        asked: Any = {"device": device, "dtype": wanted, "lora": lora, "work": work}
        plan, why = plan_backbone(name, memory, quantised=quantised, **asked)
        warn(f"the plan for {name}: {why}.")
    spec = replace(spec, quantised=eight_bits(quantised if plan is None else plan.quantised))
    if plan is None:
        check_fits(name, numbers, device, wanted, quantised=bool(spec.quantised))
    if compile:
        check_compiler(device)
    how: Any = {"device": device, "dtype": wanted, "waits": plan is not None}
    if spec.quantised:
        how |= loaded_as(spec.quantised, _around(folder, family, name))
    model = family.load(folder, spec, **how)
    for file, one in given:
        loras.merge(model.experts, file, one, family.pipelines[0])
    if plan is not None:
        keep(model, plan)
    if compile and plan is not None and plan.offload:
        warn("blocks that wait on the CPU are not compiled.")
    elif compile:
        model.compile()
    return model


def plan_backbone(
    name: str,
    memory: int | float | str,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    lora: str | Sequence[str] = (),
    quantised: Kind | None = None,
    work: Work | None = None,
) -> Chosen:
    """How `load_backbone` would keep a backbone in so much memory of a device, and why: whole or
    quantised weights, blocks that wait on the CPU or not, checkpointing or not.

    `memory` is bytes, or text such as "24GiB"; a tenth of it is left to the device's own context.
    `work` is what is done with the backbone, by default an update of one clip as recommended.
    Weights are not read. Raises ModelError where no plan fits.
    """
    place = _device(device)
    folder, index, family = _found(name)
    sketch = sketch_backbone(name, dtype=dtype_of(dtype, place), lora=lora)
    check_whole_weights(quantised, sketch.spec)
    bare = _is_bare(folder)
    parts = [part for part in parts_of(index, ()) if not bare or part in family.needs]
    numbers = _numbers(folder, family, parts, bare=bare)
    return chosen(sketch, memory, place, work, quantised, numbers)


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
        folder, name=name, device=place, dtype=dtype_of(dtype, place), blocks=blocks
    )
    own = [part for part in NEEDED if part in index] if _is_bare(folder) else NEEDED
    parts = parts_of(index, own)
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
    check_is_folder(name)
    index = folder_index(Path(folder), name) if Path(folder).is_dir() else hub_index(name)
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


def _is_bare(folder: str) -> bool:
    """Whether it is a folder of configurations alone."""
    return Path(folder).is_dir() and not has_weights(Path(folder))


def _numbers(
    folder: str, family: type[Model], parts: Collection[str], *, bare: bool = False
) -> dict[str, Counter[str]]:
    """How many numbers the parts have: of a folder by its files; by its configurations of a hub id,
    before anything is downloaded, and of a `bare` folder.
    """
    if Path(folder).is_dir() and not bare:
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


def _around(folder: str, family: type[Model], name: str) -> list[str]:
    """The modules of a transformer around its blocks."""
    meta = torch.device("meta")
    sketch = family.sketch(folder, name=name, device=meta, dtype=torch.float32, blocks=1)
    return around(sketch.transformer, family.layout.blocks)


def _device(device: torch.device | str | None) -> torch.device:
    """The one given, or the first GPU if there is one."""
    return torch.device(
        device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    )
