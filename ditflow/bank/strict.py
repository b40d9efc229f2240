"""JSON as a bank writes it, in one way only, and as it reads it: of unknown origin."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def canonical_json(value: object) -> str:
    """The one way to write a JSON value: keys sorted, no spaces, ASCII. ValueError or TypeError if it is none or holds a number that is not finite."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def strict_json(text: str) -> dict[str, Any]:
    """Parse a JSON object. ValueError for anything else, a repeated key, NaN or infinity by name, or absurd nesting."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key appears twice")
    return fields


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
