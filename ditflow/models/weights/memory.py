"""Do the weights of a model fit a device? Asked before they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch

from ditflow.models.loading import PARTS, ModelError
from ditflow.models.weights.files import FLOATS, WIDTHS


def check_fits(
    name: str,
    numbers: Mapping[str, Counter[str]],
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Raise ModelError where a device has not enough free memory for all parts of a model at once.

    `numbers` are how many a part has of each type. Of two experts one waits on the CPU. A clip
    takes memory besides.
    """
    free = free_memory(device)
    needed = {part: _bytes(counts, dtype) for part, counts in numbers.items()}
    if device.type != "cpu" and "transformer_2" in needed:
        needed["transformer"] = max(needed["transformer"], needed.pop("transformer_2"))
    if free is None or sum(needed.values()) <= free:
        return
    parts = ", ".join(f"{PARTS.get(part, part)} {_size(size)}" for part, size in needed.items())
    kind = str(dtype).removeprefix("torch.")
    smaller = "--model.dtype bfloat16, " if dtype.itemsize > 2 else ""
    raise ModelError(
        f"the weights of backbone {name!r} take {_size(sum(needed.values()))} in {kind} ({parts}), "
        f"and {device} has {_size(free)} free. Use {smaller}a smaller model, or another device."
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


def _bytes(counts: Counter[str], dtype: torch.dtype) -> int:
    """Floating-point numbers become the dtype; others stay."""
    return sum(
        count * (dtype.itemsize if kind in FLOATS else WIDTHS[kind])
        for kind, count in counts.items()
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
