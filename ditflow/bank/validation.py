"""Checks of single values that come from strangers. Each returns the value in its one normal form,
or raises ValueError saying what it must be.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

Check = Callable[[Any], Any]


def text(longest: int, pattern: str = r"[^\ud800-\udfff]*", meaning: str = "text") -> Check:
    """A string of at most `longest` characters that the pattern matches from end to end; by default
    what UTF-8 can hold.
    """

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest or not re.fullmatch(pattern, value):
            raise ValueError(f"must be {meaning} of at most {longest} characters")
        return value

    return check


def integer(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be an integer from {low} to {high}")
        return value

    return check


def number(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"must be a finite number from {low:g} to {high:g}")
        return float(value)

    return check


def whole_or_number(low: float, high: float) -> Check:
    """A finite number that stays the integer or the float that it is."""
    check_number = number(low, high)

    def check(value: Any) -> float:
        checked: float = check_number(value)
        return value if type(value) is int else checked

    return check


def many(check_one: Check, low: int, high: int) -> Check:
    """A list or tuple of low to high values that each pass; becomes a tuple."""

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not low <= len(value) <= high:
            raise ValueError(
                f"must be a list of {low if low == high else f'{low} to {high}'} values"
            )
        return tuple(check_one(item) for item in value)

    return check


def one_or(check_one: Check, check_many: Check) -> Check:
    """A single value, or a list or tuple of them."""

    def check(value: Any) -> Any:
        return (check_many if isinstance(value, (list, tuple)) else check_one)(value)

    return check


def json_object(value: Any) -> dict[str, Any]:
    """A dict of plain JSON values, as it will be after a round trip."""
    try:
        encoded = canonical_json(value)
    except (TypeError, ValueError, RecursionError):
        encoded = ""
    if not isinstance(value, dict) or not encoded or len(encoded) > 1 << 16:
        raise ValueError("must be an object of plain JSON values of at most 65536 characters")
    return dict(json.loads(encoded))


def iso_date(value: Any) -> str:
    try:
        datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("must be a date and time such as 2026-01-31T12:00:00+00:00") from None
    return str(value)


def check_names(fields: Mapping[str, Check], values: Mapping[str, Any]) -> None:
    """Raises ValueError that names a field too many or too few."""
    if unknown := sorted(set(values) - set(fields)):
        raise ValueError(f"has an unknown field {unknown[0]!r:.80}")
    if missing := [name for name in fields if name not in values]:
        raise ValueError(f"has no field {missing[0]!r}")


def normal(fields: Mapping[str, Check], values: Mapping[str, Any]) -> dict[str, Any]:
    """All values in normal form. Raises ValueError that names the field, what it must be, and what
    came.
    """
    check_names(fields, values)
    checked = {}
    for name, check in fields.items():
        try:
            checked[name] = check(values[name])
        except ValueError as error:
            came = repr(values[name])
            raise ValueError(
                f"field {name!r} {error}, not {came if len(came) <= 80 else came[:77] + '...'}"
            ) from None
    return checked


def canonical_json(value: object) -> str:
    """The one way to write a JSON value: keys sorted, no spaces, ASCII. ValueError or TypeError if
    it is none or holds a number that is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def strict_json(text: str) -> dict[str, Any]:
    """Parse a JSON object. ValueError for anything else, a repeated key, NaN or infinity by name,
    or absurd nesting.
    """
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
