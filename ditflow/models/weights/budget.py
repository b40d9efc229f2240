"""How much memory may be taken, as people write it: "24GiB", "24 GB", 25769803776."""

from __future__ import annotations

import math
import re

from ditflow.models.loading import ModelError

UNITS = {"": 1} | {
    f"{prefix}{ending}": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for ending, base in (("b", 1000), ("ib", 1024))
}
LEAST = 1024**2  # bytes; less is a number whose unit was forgotten


def bytes_of(memory: int | float | str) -> int:
    """Bytes of "24GiB" (powers of 1024), "24GB" (powers of 1000), or of a number of bytes.

    Raises ModelError for anything else, and for less than a MiB.
    """
    said = str(memory).strip()
    found = re.fullmatch(r"([0-9.]+(?:e[+]?[0-9]+)?)\s*([a-z]*)", said.lower())
    try:
        number, unit = found.groups() if found is not None else ("", "?")
        count = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        raise ModelError(
            f"memory {memory!r} is no amount: write 24GiB, 24GB, or a number of bytes."
        ) from None
    if not LEAST <= count < math.inf:
        raise ModelError(f"memory {memory!r} is {count:g} bytes: name its unit, such as 24GiB.")
    return int(count)


def sized(count: float) -> str:
    """Bytes as people read them, in GiB or MiB."""
    unit, power = ("GiB", 3) if count >= 1024**3 else ("MiB", 2)
    return f"{count / 1024**power:.3g} {unit}"
