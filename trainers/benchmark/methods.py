"""What a benchmark compares: setups of `configs/setups`, each as it optimises, and some of them as
their entries serve other prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ditflow.models import ModelSpec
from ditflow.models.presets import recommended
from ditflow.resources import home, shipped

ZERO_SHOT = "-zero-shot"


@dataclass(frozen=True)
class Method:
    """One row of the table. `model` are options of `fit` beyond the setup's; `zero_shot_from` is
    the kind of prompt that its entries were optimised with.
    """

    name: str
    setup: str
    config: Path
    model: Mapping[str, Any] = field(default_factory=dict)
    zero_shot_from: str | None = None

    @property
    def bank(self) -> str:
        """Name of the bank that holds its entries: the optimising method's."""
        return self.name.removesuffix(ZERO_SHOT) if self.zero_shot_from is not None else self.name

    def kinds(self, kinds: Sequence[str]) -> list[str]:
        """The prompts that it makes videos of."""
        return [kind for kind in kinds if kind != self.zero_shot_from]

    def described(self, spec: ModelSpec) -> dict[str, Any]:
        chosen = setup_options(self.config) | dict(self.model)
        variable = (
            chosen.get("variable") or recommended(spec.position, spec.blocks).variable
            if chosen.get("signal", "amf") is not None
            else None
        )
        zero_shot = self.zero_shot_from is not None
        label = f"{self.bank}, zero-shot" if zero_shot else self.name
        return {
            "name": self.name,
            "label": label,
            "setup": self.setup,
            "variable": variable,
            "zero_shot": zero_shot,
            "optimised": self.bank,
        }


def methods_of(
    setups: Sequence[str], zero_shot: Sequence[str], zero_shot_from: str
) -> list[Method]:
    """The setups in their order, then those whose entries serve other prompts. Raises ValueError
    for an unknown setup.
    """
    if not setups:
        raise ValueError(
            f"no setup is given: name some in `setups`, of {', '.join(known_setups())}."
        )
    optimised = [Method(Path(name).stem, name, setup_file(name)) for name in setups]
    if strangers := set(zero_shot) - set(setups):
        raise ValueError(
            f"zero_shot names {', '.join(sorted(strangers))}, which setups does not: its entries come from there, so add it."
        )
    injected = [
        Method(
            f"{Path(name).stem}{ZERO_SHOT}", name, setup_file(name), zero_shot_from=zero_shot_from
        )
        for name in zero_shot
    ]
    if repeated := sorted(
        {
            method.name
            for method in optimised
            if sum(other.name == method.name for other in optimised) > 1
        }
    ):
        raise ValueError(f"setups names {', '.join(repeated)} more than once.")
    return optimised + injected


def chosen_of(methods: Sequence[Method], names: Iterable[str] | None) -> list[Method]:
    """Those of the given names, in the methods' own order; None is all. Raises ValueError for an
    unknown one.
    """
    if names is None:
        return list(methods)
    if unknown := [name for name in names if name not in {method.name for method in methods}]:
        raise ValueError(
            f"there is no method {', '.join(map(repr, unknown))}: this benchmark has {', '.join(method.name for method in methods)}."
        )
    return [method for method in methods if method.name in set(names)]


def known_setups() -> list[str]:
    return sorted(file.stem for file in (home("configs") / "setups").glob("*.yaml"))


def setup_file(name: str) -> Path:
    """The configuration of a setup: one that ships, by its name, or a user's own file. Raises
    ValueError where there is none.
    """
    file = Path(name) if name.endswith(".yaml") else shipped("configs", f"setups/{name}.yaml")
    if file is None or not file.is_file():
        raise ValueError(
            f"unknown setup {name!r}: give one of {', '.join(known_setups())}, or the path of a .yaml file."
        )
    return file


def setup_options(file: Path) -> dict[str, Any]:
    """The options of `fit` that a setup gives its model. Raises ValueError for a file that is
    none.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"the setup {file} cannot be read: {' '.join(str(error).split())}."
        ) from error
    if content is not None and not isinstance(content, dict):
        raise ValueError(
            f"the setup {file} is no mapping: it should hold `model:` with options of `ditflow fit`."
        )
    return dict((content or {}).get("model") or {})


def options_of(group: str, values: Mapping[str, Any]) -> list[str]:
    """Options as the words of a command line: {"steps": 4} of "model" is --model.steps 4."""
    return [
        word
        for key, value in values.items()
        for word in (f"--{group}.{key}", value if isinstance(value, str) else json.dumps(value))
    ]
