"""The methods of `fit`, and which options of a YAML file are whose.

One file may hold options for all methods and for both commands: each takes its own options from it.
An option that nobody has is left to the parser, which refuses it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from lightning import Callback, LightningModule

from trainers.motion.callbacks import BankWriter, FieldWriter, VideoWriter
from trainers.motion.dry_run.plan import plan_fields, plan_fit
from trainers.motion.instant import InstantMotion
from trainers.motion.loggers import ClipLosses
from trainers.motion.optimization import MotionOptimization

MethodName = Literal["optimise", "instant"]
CONFIG = ("--config", "-c")


@dataclass(frozen=True)
class FitMethod:
    """A module, the callbacks around it, and the plan of its dry run."""

    module: type[LightningModule]
    callbacks: tuple[type[Callback], ...]
    plan: Callable[..., int]

    @property
    def options(self) -> set[str]:
        return set(inspect.signature(self.module).parameters)


METHODS: dict[str, FitMethod] = {
    "optimise": FitMethod(MotionOptimization, (VideoWriter, BankWriter, ClipLosses), plan_fit),
    "instant": FitMethod(InstantMotion, (FieldWriter,), plan_fields),
}


def method_of(words: Sequence[str]) -> FitMethod:
    """The method that the words of a command line ask for, by themselves or in a YAML file.

    Of several the last counts. A method that there is not is left to the parser.
    """
    asked = "optimise"
    for option, value in options_in(words):
        if option == "--method":
            asked = value
        elif option in CONFIG:
            asked = str(_content(value).get("method", asked))
    return METHODS.get(asked, METHODS["optimise"])


def with_own_options(words: Sequence[str], method: FitMethod, *, fits: bool) -> list[str]:
    """The words, in which a YAML file that holds options of others is replaced by its own content
    without them.

    `fits` says that the command is `fit`, the only one that has methods.
    """
    own = list(words)
    files = [value for option, value in options_in(words) if option in CONFIG]
    for file in files:
        content = _content(file)
        if (rest := _without_others(content, method, fits=fits)) != content:
            inline = json.dumps(rest)
            spelled = {file: inline} | {f"{name}={file}": f"{name}={inline}" for name in CONFIG}
            given = zip(own, ["", *own], strict=False)
            own = [
                spelled[word] if word in spelled and (before in CONFIG or word != file) else word
                for word, before in given
            ]
    return own


def _without_others(content: dict[str, Any], method: FitMethod, *, fits: bool) -> dict[str, Any]:
    others = set().union(*(one.options for one in METHODS.values())) - method.options
    rest = {key: value for key, value in content.items() if fits or key != "method"}
    if isinstance(model := content.get("model"), dict):
        rest["model"] = {key: value for key, value in model.items() if key not in others}
    return rest


def options_in(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options and their values, in either spelling."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        yield (option, value) if equals else (option, following)


def _content(file: str) -> dict[str, Any]:
    """What a YAML file holds; nothing where it cannot be read, which the parser says."""
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
