"""JSON that may be damaged or forged: values are checked, and errors name the file and the fix."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

AGAIN = "run `ditflow test` again"


class ReportError(ValueError):
    """A run that cannot be shown. The message is one sentence with the fix."""


def read_object(path: Path) -> Mapping[str, Any]:
    """The JSON object of a file. Raises ReportError for anything else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise ReportError(
            f"{path} is damaged and cannot be read as JSON: delete it and {AGAIN}, "
            "which makes what is missing."
        ) from error
    if not isinstance(data, dict):
        found = type(data).__name__
        raise ReportError(
            f"{path} holds a {found}, but an object was wanted: delete it and {AGAIN}."
        )
    return data


def rows(data: Mapping[str, Any], key: str, path: Path) -> list[Mapping[str, Any]]:
    """A list of objects. Raises ReportError for anything else."""
    found = data.get(key)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ReportError(f"{path}: {key!r} must be a list of objects; {AGAIN}.")
    return found


def names(data: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """A list of texts. Raises ReportError for anything else."""
    found = data.get(key)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ReportError(f"{path}: {key!r} must be a list of names; {AGAIN}.")
    return tuple(found)


def text(row: Mapping[str, Any], key: str, path: Path) -> str:
    """A text. Raises ReportError for anything else."""
    if not isinstance(row.get(key), str):
        raise ReportError(f"{path}: {row!r} has no {key!r}; {AGAIN}.")
    return str(row[key])


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
