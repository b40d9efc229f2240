"""Finds the configurations that ship by the names of their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ditflow.resources import shipped


def with_shipped_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments, in which a configuration that does not exist here is a shipped one instead."""
    found = list(arguments)
    for i, argument in enumerate(found):
        option, equals, value = argument.partition("=")
        if option in ("--config", "-c") and equals:
            found[i] = f"{option}={_config(value)}"
        elif option in ("--config", "-c") and i + 1 < len(found):
            found[i + 1] = _config(found[i + 1])
    return found


def _config(name: str) -> str:
    """A file as it is named, or else the shipped one with its path below `configs` or its name,
    which may be said without ".yaml".
    """
    below = Path(name).as_posix().rpartition("configs/")[2]
    words = (below, Path(name).name, f"{below}.yaml")
    found = (ships for word in words if (ships := shipped("configs", word)) and ships.is_file())
    return name if Path(name).is_file() else str(next(found, name))
