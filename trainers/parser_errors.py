"""What the parser says about a wrong option, in one sentence."""

from __future__ import annotations

import re

OF_CLASS = (
    r"Problem with given class_path '(?:\w+\.)*(\w+)':\s+"
    r"(?:Option '(\w+)' is not accepted|Parser key \"(\w+)\":\s+(.*))"
)
EXPECTED = r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[([^\]]*)\]|([^\n.]+))"


def in_one_sentence(message: str, command: str) -> str:
    """The parser's message about one option of a command, without the names of Python types."""
    key = re.search(r'[Kk]ey "([^"]+)"', message)
    if key and (problem := re.search(OF_CLASS, message)):
        name, unknown, option, expected = problem.groups()
        fault = f"{name} has no option {unknown}" if unknown else _fault(name, option, expected)
        return f"--{key[1]}: {fault}. `ditflow {command} --{key[1]}.help {name}` lists its options."
    if key and (nested := re.search(r"NestedArg\(key='(\w+)'", message)):
        return (
            f"--{key[1]}.{nested[1]} belongs to a class: name it first, as in "
            f"--{key[1]} AttentionMotionFlow. `ditflow {command} --help all` lists the classes."
        )
    value = re.search(r"(?:Given value|Got value): (.*)", message)
    kinds = re.findall(EXPECTED, message)
    if key and value and value[1].strip() == "None":
        return f"--{key[1]} is missing. `ditflow {command} --help` explains it."
    if key and value and kinds:
        wanted = dict.fromkeys(
            "nothing (null)" if kind == ("NoneType", "", "") else "".join(kind)
            for kind in kinds
            if not kind[2].startswith("dot import path")
        )
        return (
            f"--{key[1]} cannot be {value[1].strip()!r}: give {' or '.join(wanted)}. "
            f"`ditflow {command} --help` explains it."
        )
    plain = " ".join(message.removeprefix('Parser key "config": ').split()).rstrip(".")
    return f"{plain}. `ditflow {command} --help` lists what can be given."


def cause_of(message: str) -> str:
    """What a class said when it was made from its options, without the parser's list of types."""
    if "Union subtypes" not in message:
        return message
    errors = re.findall(r"^  - (.*(?:\n    .*)*)", message, re.MULTILINE)
    return next((error for error in errors if not error.startswith("Expected a")), message)


def _fault(name: str, option: str, expected: str) -> str:
    kinds = [*dict.fromkeys("".join(kind) for kind in re.findall(EXPECTED, expected))]
    value = expected.rpartition("Got value: ")[2]
    return f"{option} of {name} cannot be {value!r}: give {' or '.join(kinds)}"
