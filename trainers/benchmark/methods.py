"""The methods that a benchmark compares: setups of `configs/setups`, and some of them zero-shot, as
their entries serve other prompts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ditflow.models import ModelSpec
from ditflow.models.presets import recommended
from ditflow.resources import home, shipped

ZERO_SHOT = "-zero-shot"
FIELD_OPTIONS = ("backbone", "source")
"""What `fit --method instant` takes; the other options of an instant setup are for `predict`."""


@dataclass(frozen=True)
class Method:
    """One row of the table.

    `model` holds options beyond the setup's. `only` are the kinds of prompts that it makes videos
    of, None all. A zero-shot method injects entries that were optimised with the kind
    `zero_shot_from`. An instant method has one entry a clip, a field, and injects it too.
    """

    name: str
    setup: str
    config: Path
    model: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] | None = None
    zero_shot_from: str | None = None

    @cached_property
    def is_instant(self) -> bool:
        return setup_content(self.config).get("method") == "instant"

    def entry(self, clip: str, kind: str) -> str:
        """Name of the entry behind a clip's video of that kind of prompt."""
        return clip if self.is_instant else f"{clip}--{self.zero_shot_from or kind}"

    @property
    def bank(self) -> str:
        """Name of the bank with its entries. A zero-shot method takes those of its setup."""
        return self.name.removesuffix(ZERO_SHOT) if self.zero_shot_from is not None else self.name

    def kinds(self, kinds: Sequence[str]) -> list[str]:
        """Of a benchmark's kinds of prompts, those that the method makes videos of."""
        wanted = kinds if self.only is None else self.only
        return [kind for kind in kinds if kind in wanted and kind != self.zero_shot_from]

    def described(self, spec: ModelSpec, kinds: Sequence[str]) -> dict[str, Any]:
        """The method's row in run.json."""
        zero_shot = self.zero_shot_from is not None
        return {
            "name": self.name,
            "label": f"{self.bank}, zero-shot" if zero_shot else self.name,
            "setup": self.setup,
            "variable": self._variable(spec),
            "zero_shot": zero_shot,
            "optimised": self.bank,
            "kinds": self.kinds(kinds),
        }

    def _variable(self, spec: ModelSpec) -> str | None:
        if self.is_instant:
            return "field"
        chosen = setup_options(self.config) | dict(self.model)
        if chosen.get("signal", "amf") is None:
            return None
        return chosen.get("variable") or recommended(spec).variable


def methods_of(
    setups: Sequence[str],
    zero_shot: Sequence[str],
    zero_shot_from: str,
    only: Sequence[str] | None = None,
) -> list[Method]:
    """The setups in their order, then the zero-shot methods. `only` are the kinds of prompts that
    the setups make videos of, None all; instant ones make all. Raises ValueError for an unknown
    setup, and for one that is named twice.
    """
    if not setups:
        raise ValueError(
            f"no setup is given: name some in `setups`, of {', '.join(known_setups())}."
        )
    kinds = None if only is None else tuple(only)
    made = [Method(Path(name).stem, name, setup_file(name), only=kinds) for name in setups]
    made = [replace(method, only=None) if method.is_instant else method for method in made]
    if strangers := sorted(set(zero_shot) - set(setups)):
        raise ValueError(
            f"zero_shot names {', '.join(strangers)}, which setups does not. "
            "Its entries are made by the setup, so add it to setups."
        )
    names = [Path(setup).stem for setup in setups]
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"setups names {', '.join(repeated)} more than once.")
    return made + [
        Method(
            f"{Path(name).stem}{ZERO_SHOT}", name, setup_file(name), zero_shot_from=zero_shot_from
        )
        for name in zero_shot
    ]


def chosen_of(methods: Sequence[Method], names: Iterable[str] | None) -> list[Method]:
    """The methods of the given names, in the order of `methods`; all for None. Raises ValueError
    for an unknown name.
    """
    if names is None:
        return list(methods)
    if unknown := [name for name in names if name not in {method.name for method in methods}]:
        known = ", ".join(method.name for method in methods)
        raise ValueError(
            f"there is no method {', '.join(map(repr, unknown))}: this benchmark has {known}."
        )
    return [method for method in methods if method.name in set(names)]


def known_setups() -> list[str]:
    return sorted(file.stem for file in (home("configs") / "setups").glob("*.yaml"))


def setup_file(name: str) -> Path:
    """The configuration of a setup, which is the name of a shipped one or the path of a file.
    Raises ValueError where there is none.
    """
    file = Path(name) if name.endswith(".yaml") else shipped("configs", f"setups/{name}.yaml")
    if file is None or not file.is_file():
        raise ValueError(
            f"unknown setup {name!r}: give one of {', '.join(known_setups())}, "
            "or the path of a .yaml file."
        )
    return file


def setup_options(file: Path) -> dict[str, Any]:
    """The options under `model:` of a setup. Raises ValueError for a file that is no setup."""
    return dict(setup_content(file).get("model") or {})


def setup_content(file: Path) -> dict[str, Any]:
    """All options of a setup. Raises ValueError for a file that is no setup."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"the setup {file} cannot be read: {' '.join(str(error).split())}."
        ) from error
    if content is not None and not isinstance(content, dict):
        raise ValueError(
            f"the setup {file} is no mapping: "
            "it should hold `model:` with options of `ditflow fit`."
        )
    return content or {}


def options_of(group: str, values: Mapping[str, Any]) -> list[str]:
    """Options as words of a command line: {"steps": 4} of "model" becomes --model.steps 4."""
    return [
        word
        for key, value in values.items()
        for word in (f"--{group}.{key}", value if isinstance(value, str) else json.dumps(value))
    ]
