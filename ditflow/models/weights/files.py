"""Is what was given a whole pipeline of plain weights? Asked of configurations and headers alone.

So a mistake is said at once, and not after the largest part has been loaded.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ditflow.models.loading import PARTS, PICKLES, ModelError, loading
from ditflow.models.weights.hub import INDEX

WEIGHTS = {  # the files of each part that has weights, without their ending
    "transformer": "diffusion_pytorch_model",
    "transformer_2": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "image_encoder": "model",
}
NEEDED = ("vae", "text_encoder", "tokenizer", "scheduler")  # besides those that the index names
READ = tuple(dict.fromkeys([*WEIGHTS, *NEEDED, "image_processor"]))
BECAUSE = {  # options that need a part
    "transformer_2": "a boundary_ratio",
    "image_encoder": "an image_dim",
    "image_processor": "an image_dim",
}
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "BOOL": 1}
FLOATS = ("F64", "F32", "F16", "BF16")


def check_is_folder(name: str) -> None:
    """Raise ModelError for a file: a model is a folder of parts."""
    path = Path(name)
    ending = path.suffix.lower().removeprefix(".")
    if ending not in ("gguf", "safetensors", *PICKLES) and not path.is_file():
        return
    if ending == "gguf":
        raise ModelError(
            f"backbone {name!r} is a GGUF file: a quantised transformer and nothing else. Give the "
            "diffusers folder, or the hub id, of the model that it was made from."
        )
    if ending in PICKLES:
        raise ModelError(
            f"backbone {name!r} is a file that may be pickled, and unpickling can run code. Give a "
            "folder in diffusers format, with its weights as safetensors."
        )
    if ending != "safetensors":
        raise ModelError(
            f"backbone {name!r} is a file, and no checkpoint: a backbone is a folder in diffusers "
            "format. Give that folder, or a hub id."
        )
    raise ModelError(
        f"backbone {name!r} is a single file of weights: a backbone is a folder in diffusers "
        "format, with VAE, text encoder, tokenizer and scheduler. Write the transformer into a "
        "copy of the published folder, as docs/models.md shows. A LoRA goes to --model.lora."
    )


def folder_index(folder: Path, name: str) -> dict[str, Any]:
    """The model index of a local folder. Raises ModelError where there is none to be read."""
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


def parts_of(index: Mapping[str, Any], needed: Collection[str] = NEEDED) -> list[str]:
    """The parts that are read: those needed, and those that a model index names."""
    return [part for part in READ if part in needed or _names(index, part)]


def check_whole(name: str, index: Mapping[str, Any]) -> None:
    """Raise ModelError where a model index does not name a part that every pipeline has."""
    for part in NEEDED:
        if not _names(index, part):
            said = f"{PARTS[part]} ({part})" if part in PARTS else part
            raise ModelError(
                f"the model_index.json of backbone {name!r} names no {said}: it is no whole "
                "pipeline. Use one that is, or a copy with that part."
            )


def check_named(name: str, index: Mapping[str, Any], needed: Iterable[str]) -> None:
    """Raise ModelError where a model index does not name a part that an option asks for."""
    for part in needed:
        if not _names(index, part):
            raise ModelError(
                f"backbone {name!r} has {BECAUSE[part]}, and its model_index.json names no "
                f"{PARTS[part]} ({part}). Save or download the backbone again."
            )


def check_parts(folder: Path, parts: Iterable[str]) -> None:
    """Raise ModelError for a part that is not in a local folder. Weights are not looked for."""
    for part in parts:
        with loading(str(folder), part):
            if not any((folder / part).glob("*")):
                raise FileNotFoundError(f"there is no folder {part}, or nothing in it")
            if part in WEIGHTS and not (folder / part / "config.json").is_file():
                raise FileNotFoundError("it has no config.json")


def has_weights(folder: Path) -> bool:
    """Whether the transformer in a local folder has any file of weights."""
    return any((folder / "transformer").glob("*.safetensors"))


def check_weights(folder: Path, parts: Iterable[str]) -> dict[str, Counter[str]]:
    """How many numbers of each type the parts of a local folder have.

    Raises ModelError for a part that is incomplete or quantised.
    """
    return {part: _numbers(folder, part) for part in parts if part in WEIGHTS}


def check_configuration(folder: str, part: str, config: Mapping[str, Any], wanted: str) -> None:
    """Raise ModelError for a part of another class, or for one that is quantised.

    Weights of one class may load into another without an error, and mean something else there.
    """
    what = f"the {PARTS.get(part, part)} of backbone {folder!r}"
    if (found := config.get("_class_name", wanted)) != wanted:
        raise ModelError(f"{what} is of class {found!r}, and this family has {wanted!r}. {OWN}")
    if quantised := config.get("quantization_config"):
        how = quantised.get("quant_method", "") if isinstance(quantised, Mapping) else ""
        raise _quantised(what, str(how))


def check_experts(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Raise ModelError unless two experts are configured alike: only their weights differ."""
    keys = sorted(first.keys() | second.keys())
    differ = [key for key in keys if not key.startswith("_") and first.get(key) != second.get(key)]
    if differ:
        raise ModelError(
            f"the two transformers of backbone {name!r} are configured differently "
            f"({', '.join(differ)}), and both denoise one video. Save or download the backbone "
            "again."
        )


def check_text_encoder(folder: str, wanted: str) -> None:
    """Raise ModelError unless the text encoder is of the class, by its configuration alone."""
    import transformers

    with loading(folder, "text_encoder"):
        get = transformers.PreTrainedConfig.get_config_dict
        config: dict[str, Any] = get(folder, subfolder="text_encoder")[0]
    check_configuration(folder, "text_encoder", config, wanted)
    kind = getattr(transformers, wanted).config_class.model_type
    if (found := config.get("model_type", kind)) != kind:
        raise ModelError(
            f"the text encoder of backbone {folder!r} is of type {found!r}, and {wanted} is "
            f"{kind!r}: it might load without an error, and its embeddings would be wrong. {OWN}"
        )


OWN = "Take that part from the published model."


def _names(index: Mapping[str, Any], part: str) -> bool:
    """What a pipeline goes without is [null, null]."""
    match index.get(part):
        case [_, str()]:
            return True
    return False


def _numbers(folder: Path, part: str) -> Counter[str]:
    """The numbers of a part by type, from the headers of its files."""
    from safetensors import safe_open

    found: Counter[str] = Counter()
    with loading(str(folder), part):
        for file in _weight_files(folder / part, WEIGHTS[part]):
            with safe_open(file, "pt") as opened:
                for key in opened.keys():
                    tensor = opened.get_slice(key)
                    found[tensor.get_dtype()] += math.prod(tensor.get_shape())
    if strange := sorted(found.keys() - WIDTHS.keys()):
        raise _quantised(f"the {PARTS.get(part, part)} of backbone {str(folder)!r}", strange[0])
    return found


def _weight_files(place: Path, stem: str) -> list[Path]:
    """The safetensors of a part, one or as many as its index lists."""
    one, index = place / f"{stem}.safetensors", place / f"{stem}.safetensors.index.json"
    if one.is_file() or not index.is_file():
        files = [one]
    else:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        files = [place / name for name in sorted(set(listed))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"{len(missing)} of its {len(files)} files of weights are missing, such as {missing[0]}"
        )
    return files


def _quantised(what: str, how: str) -> ModelError:
    said = f" ({how})" if how else ""
    return ModelError(
        f"{what} is quantised{said}: not supported. Use the model that it was made from, and "
        "bfloat16 where memory is short."
    )
