"""What a function of the library was given, where it can be mistaken for something else."""

from __future__ import annotations

from types import UnionType


def check_kind(function: str, given: object, wanted: type | UnionType, words: str) -> None:
    """Raise ValueError unless a value is of the wanted type, which `words` name to the user."""
    if not isinstance(given, wanted):
        raise ValueError(f"{function} was given a {type(given).__name__}; it takes {words}.")
