"""LoRAs (Hu et al., 2106.09685): a transformer's weights W become W + scale * B A.

diffusers reads the file and knows the layouts in which trainers write it; PEFT merges. Afterwards
the transformer is the stock one again, with other weights, and costs no more. Of two experts each
may have LoRAs of its own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ditflow.models.loading import ModelError
from ditflow.models.spec import EXPERTS, Lora, ModelSpec
from ditflow.warning import warn

ADAPTER = "ditflow"


def named(given: str | Sequence[str]) -> list[tuple[Path, Lora]]:
    """The LoRAs of files "PATH" or "PATH:SCALE", each perhaps after "high=" or "low=". Raises
    ModelError, before anything is loaded, for what is no LoRA file, and ModuleNotFoundError without
    PEFT.
    """
    files = [parsed(one) for one in ([given] if isinstance(given, str) else given)]
    if files:
        import peft  # noqa: F401  a missing one is said now, not after the transformer is loaded
    loras = [
        (path, Lora(f"{expert}={path.name}" if expert else path.name, _checked(path), scale))
        for expert, path, scale in files
    ]
    for index, (path, one) in enumerate(loras):
        _check_once(path, one, [other for _, other in loras[:index]])
    return loras


def _check_once(path: Path, lora: Lora, before: Iterable[Lora]) -> None:
    """Raise ModelError for a file that is named a second time for the same transformer."""
    same = [other for other in before if other.sha256 == lora.sha256]
    if not any(set(_for(lora)) & set(_for(other)) for other in same):
        return
    once = "name it once, with the sum of both scales."
    if any(one.expert for one in (lora, *same)):
        once = "name it once for each expert: high=PATH:SCALE and low=PATH:SCALE."
    raise ModelError(f"LoRA {str(path)!r} is named twice: {once}")


def _for(lora: Lora) -> tuple[str, ...]:
    """The experts that a LoRA is for."""
    return (lora.expert,) if lora.expert else EXPERTS


def check_experts_of(spec: ModelSpec, loras: Iterable[Lora]) -> None:
    """Raise ModelError for a LoRA that is for one of two experts, of a model that has none."""
    for lora in loras:
        if lora.expert and not spec.boundary:
            raise ModelError(
                f"LoRA {lora.file!r} is for an expert, and {spec.name!r} has a single transformer: "
                f"leave {lora.expert + '='!r} out."
            )


def merge(experts: Sequence[Any], file: Path, lora: Lora, pipeline: str) -> None:
    """Merge a LoRA into the transformers that it is for, as the diffusers pipeline of that name
    reads it.

    Raises ModelError where it is of another model.
    """
    for expert in experts if not lora.expert else [experts[EXPERTS.index(lora.expert)]]:
        _merge(expert, file, lora.scale, pipeline)


def _merge(transformer: Any, file: Path, scale: float, pipeline: str) -> None:
    import diffusers

    what, kind = f"LoRA {str(file)!r}", getattr(diffusers, pipeline)
    try:
        state, metadata = kind.lora_state_dict(
            str(file), use_safetensors=True, return_lora_metadata=True
        )
        _check_fits(what, state, transformer)
        kind.load_lora_into_transformer(state, transformer, adapter_name=ADAPTER, metadata=metadata)
    except ModelError:
        raise
    except Exception as error:  # layouts that are not known raise errors of all kinds
        raise ModelError(
            f"{what} cannot be read as one of a {pipeline} ({type(error).__name__}). Give a file "
            f"that {pipeline}.save_lora_weights of diffusers has written."
        ) from error
    transformer.fuse_lora(lora_scale=scale, adapter_names=[ADAPTER])
    transformer.unload_lora()
    transformer.eval().requires_grad_(False)


def warn_of_others(clip: str, made: Sequence[Lora], loaded: Sequence[Lora]) -> None:
    """Warn where the entry of a clip was made with other LoRAs than the model has."""
    theirs, ours = (
        {(expert, x.sha256, x.scale) for x in some for expert in _for(x)} for some in (made, loaded)
    )
    if theirs != ours:
        with_, has = (", ".join(map(str, one)) or "no LoRA" for one in (made, loaded))
        warn(
            f"the entry of {clip!r:.80} was optimised with {with_}, and the model has {has}: its "
            "motion may come out weaker. Load the same by --model.lora, or lora=... in Python."
        )


def parsed(given: str) -> tuple[str, Path, float]:
    """The expert that a LoRA is for, its file and its scale."""
    expert, _, rest = given.partition("=")
    expert, rest = (expert, rest) if expert in EXPERTS else ("", given)
    path, _, scale = rest.rpartition(":")
    try:
        number = float(scale)
    except ValueError:
        path, number = rest, 1.0
    if not path:
        raise ModelError(f"LoRA {given!r} names no file: give PATH, or PATH:SCALE.")
    if not math.isfinite(number):
        raise ModelError(f"LoRA {given!r} has no finite scale: give PATH, or PATH:SCALE.")
    return expert, Path(path), number


def _checked(path: Path) -> str:
    """The sha256 of a LoRA file."""
    if path.suffix.lower() != ".safetensors":
        raise ModelError(
            f"LoRA {str(path)!r} is no safetensors file, and others may run code where they are "
            "unpickled. Give PATH or PATH:SCALE of a .safetensors file."
        )
    if not path.is_file():
        expert, _, rest = str(path).partition("=")
        mistyped = rest and "/" not in expert
        fix = "the experts are high and low, as in high=PATH." if mistyped else "check the path."
        raise ModelError(f"there is no LoRA {str(path)!r}: {fix}")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as opened:
            keys = list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"LoRA {str(path)!r} cannot be read ({error}). Download it again."
        ) from error
    if any("dora_scale" in key for key in keys):
        raise ModelError(
            f"LoRA {str(path)!r} is a DoRA, which diffusers would load without its magnitudes: not "
            "supported. Use a plain LoRA."
        )
    if not any("lora" in key for key in keys):
        raise ModelError(
            f"{str(path)!r} holds no LoRA but weights such as {(keys or ['none'])[0]!r:.80}. Give "
            "a file that a LoRA was saved to."
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_fits(what: str, state: dict[str, Any], transformer: Any) -> None:
    """Raise ModelError unless every layer of a LoRA is a layer of the transformer, of its size."""
    own = dict(transformer.named_parameters())
    for key, tensor in state.items():
        layer, _, matrix = key.removeprefix("transformer.").partition(".lora_")
        weight = own.get(f"{layer}.weight") if key.startswith("transformer.") else None
        if weight is None:
            raise ModelError(
                f"{what} was made for another model: this transformer has no {layer!r:.80}. Use "
                "the model that it was trained on."
            )
        if matrix not in ("A.weight", "B.weight") or tensor.ndim < 2:
            continue
        side = 1 if matrix == "A.weight" else 0
        if tensor.shape[side] != weight.shape[side]:
            raise ModelError(
                f"{what} was made for a model of another size: its {layer} has "
                f"{tensor.shape[side]} channels where this transformer has {weight.shape[side]}. "
                "Use the model that it was trained on."
            )
