"""Do the weights of a model fit a device? Asked before they are read, or even downloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from ditflow.models.loading import PARTS, ModelError, loading
from ditflow.models.weights.files import FLOATS, WIDTHS, check_configuration


def numbers_of(folder: str, parts: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """How many numbers parts have, by their configurations alone: of a hub id, whose weights are
    not here yet. `parts` are classes of diffusers or transformers.

    Raises ModelError for a part without a configuration, of another class, or quantised.
    """
    found = {}
    for part, kind in parts.items():
        with loading(folder, part), torch.device("meta"):
            empty = _empty(folder, part, kind)
        found[part] = Counter(F32=sum(parameter.numel() for parameter in empty.parameters()))
    return found


def _empty(folder: str, part: str, kind: Any) -> torch.nn.Module:
    """A part that has no numbers yet."""
    from diffusers import ModelMixin

    made: torch.nn.Module
    if issubclass(kind, ModelMixin):
        config = kind.load_config(folder, subfolder=part)
        made = kind.from_config(config)
    else:
        config = kind.config_class.from_pretrained(folder, subfolder=part).to_dict()
        made = kind(kind.config_class(**config))
    check_configuration(folder, part, config, kind.__name__)
    return made


def check_fits(
    name: str,
    numbers: Mapping[str, Counter[str]],
    device: torch.device,
    dtype: torch.dtype,
    *,
    quantised: bool = False,
) -> None:
    """Raise ModelError where a device has not enough free memory for all parts of a model at once.

    `numbers` are how many a part has of each type. Of two experts one waits on the CPU. A clip
    takes memory besides. The weights of a `quantised` transformer take a byte each.
    """
    free = free_memory(device)
    needed = {
        part: bytes_in(
            counts, 1 if quantised and part.startswith("transformer") else dtype.itemsize
        )
        for part, counts in numbers.items()
    }
    if device.type != "cpu" and "transformer_2" in needed:
        needed["transformer"] = max(needed["transformer"], needed.pop("transformer_2"))
    if free is None or sum(needed.values()) <= free:
        return
    parts = ", ".join(f"{PARTS.get(part, part)} {_size(size)}" for part, size in needed.items())
    kind = str(dtype).removeprefix("torch.")
    smaller = "--model.dtype bfloat16, " if dtype.itemsize > 2 else ""
    raise ModelError(
        f"the weights of backbone {name!r} take {_size(sum(needed.values()))} in {kind} ({parts}), "
        f"and {device} has {_size(free)} free. Use {smaller}a smaller model, or another device; "
        "--model.memory picks a plan for little memory."
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device can still give to this process; None where that cannot be asked."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    if device.type == "cpu":
        import psutil

        return int(psutil.virtual_memory().available)
    return None


def bytes_in(counts: Counter[str], width: int) -> int:
    """Floating-point numbers become so many bytes wide; others stay."""
    return sum(
        count * (width if kind in FLOATS else WIDTHS[kind]) for kind, count in counts.items()
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
