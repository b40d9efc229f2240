"""What the functions of the library are given: something of the kind that they take."""

from __future__ import annotations


def check_kind(function: str, given: object, wanted: type | tuple[type, ...], words: str) -> None:
    """Raise ValueError for what is of another kind. `words` say what the function takes."""
    if not isinstance(given, wanted):
        raise ValueError(f"{function} was given a {type(given).__name__}; it takes {words}.")
