"""The options of `fit` that choose what is optimised and under which signal, in every spelling.

A signal is a name (`amf`) or a class with its options (`AttentionMotionFlow`). Its other options
are fields of the class, or `--model.signal_arguments` and `--model.block`, which come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from ditflow.motion import SIGNALS, MotionSignal
from ditflow.sampling.variables import VARIABLES, Variable

VariableKind = Literal[
    *("latents", "rotary_tables", "rotary_positions", "sinusoidal"),
    *("LatentVariable", "RotaryTables", "RotaryPositions", "SinusoidalTable"),
]


def variable_kind(variable: VariableKind | type[Variable] | None) -> str | None:
    """The kind of a variable that is named by its kind or by its class."""
    if isinstance(variable, type):
        return variable.kind
    classes = {kind.__name__: name for name, kind in VARIABLES.items()}
    return None if variable is None else classes.get(variable, variable)


def signal_of(
    signal: MotionSignal | str | None, arguments: Mapping[str, Any] | None, block: int | None
) -> MotionSignal | None:
    """The signal that was chosen, with these of its options changed.

    Raises ValueError for an unknown name and for options that the signal does not take.
    """
    if signal is None:
        _check_unused({"signal_arguments": arguments or None, "block": block})
        return None
    if isinstance(signal, str):
        signal = _named(signal)
    given = _checked(type(signal), arguments or {})
    return replace(signal, **given | ({} if block is None else {"block": block}))


def _check_unused(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"{name} was given, but there is no signal: leave it out, or choose a signal out "
                f"of {', '.join(SIGNALS)}."
            )


def _named(name: str) -> MotionSignal:
    if name not in SIGNALS:
        raise ValueError(f"unknown signal {name!r}: it is one of {', '.join(SIGNALS)}.")
    return SIGNALS[name]()


def _checked(signal: type[MotionSignal], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the types of the signal's fields."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(signal, skip={"block"})
    try:
        parsed = parser.parse_object(dict(arguments)).as_dict()
    except ArgumentError as error:
        takes = ", ".join(field.name for field in fields(signal) if field.name != "block")
        said = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"signal {signal.name!r} takes {takes}; what was given does not fit ({said})."
        ) from None
    return {name: parsed[name] for name in arguments}
