"""Configurations by name, and what the parser says about a wrong option in one sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ditflow.resources import shipped


def with_shipped_configs(arguments: Sequence[str]) -> list[str]:
    """A configuration that is not here is taken from those that ship, by its file's name."""
    found = list(arguments)
    for i, argument in enumerate(found):
        option, equals, value = argument.partition("=")
        if option in ("--config", "-c") and equals:
            found[i] = f"{option}={_config(value)}"
        elif option in ("--config", "-c") and i + 1 < len(found):
            found[i + 1] = _config(found[i + 1])
    return found


def _config(name: str) -> str:
    """Its path below `configs`, or else its file's name, is where it ships."""
    ships = shipped("configs", Path(name).as_posix().rpartition("configs/")[2]) or shipped(
        "configs", Path(name).name
    )
    return name if Path(name).exists() or ships is None else str(ships)


def in_one_sentence(message: str, command: str) -> str:
    """The parser's explanation of one argument, without its types' inner life."""
    key = re.search(r'[Kk]ey "([^"]+)"', message)
    value = re.search(r"(?:Given value|Got value): (.*)", message)
    kinds = re.findall(
        r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[([^\]]*)\]|([^\n.]+))", message
    )
    if key and value and value[1].strip() == "None":
        return f"--{key[1]} is missing. `ditflow {command} --help` explains it."
    if key and value and kinds:
        wanted = dict.fromkeys(
            "nothing (null)" if kind == ("NoneType", "", "") else "".join(kind) for kind in kinds
        )
        return f"--{key[1]} cannot be {value[1].strip()!r}: give {' or '.join(wanted)}. `ditflow {command} --help` explains it."
    plain = " ".join(message.removeprefix('Parser key "config": ').split()).rstrip(".")
    return f"{plain}. `ditflow {command} --help` lists what can be given."
