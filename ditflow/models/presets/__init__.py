"""What to optimise, where and how fast: one YAML file for each checkpoint that ditflow knows.

These are the values that `None` stands for in `fit` and in `transfer_motion`. A file also says what
a reader of README needs to choose a model: frames, memory, time, licence, and whether its values
were published or measured here. `table.py` makes README's table of models from these files.

Learning rates are in the unit of the variable: `rotary_positions` moves tokens, so its rates are
larger than those of tables and latents. The updates `sgd` and `score` multiply the gradient of a
loss that is a mean, so the rate of `score` grows with the number of terms in that mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from ditflow.core.schedule import Scale
from ditflow.core.sizes import VideoSize
from ditflow.models.base import ModelSpec

T = TypeVar("T")
Status = Literal["published", "measured here", "never run"]


@dataclass(frozen=True)
class Recommendation:
    """How motion is best optimised on a model.

    Attributes:
        variable: what is optimised.
        block: where the motion signal is read, counted from 0.
        window: the guided fraction of the steps.
        steps: denoising steps.
        guidance_scale: of the prompt; a pair is of the experts for much and for little noise.
        negative_prompt: what the video should not look like.
        checkpointing: for models whose backward pass does not fit into a GPU's memory otherwise.
        injection_blocks: whose keys and values come from the reference in the window.
        learning_rates: the (first, last) rate of each variable under Adam, and of each other
            update.
        passes: of the prompt's guidance in which optimised positions act.
        begin: where optimised positions begin: at the model's own places, or where the clip's
            motion field puts them.
        noise_share: how much of the initial noise moves along the clip's field where motion is
            optimised, from 0 to 1.
        inner_steps: updates at each guided step.
        instant_window: the fraction of the steps in which tokens follow a motion field.
        instant_noise_share: how much of the initial noise moves along a motion field that nothing
            is optimised for, from 0 to 1.
    """

    variable: str
    block: int
    window: float
    steps: int
    guidance_scale: Scale
    negative_prompt: str
    checkpointing: bool
    injection_blocks: tuple[int, ...]
    learning_rates: Mapping[str, tuple[float, float]]
    passes: Literal["both", "conditional"] = "both"
    begin: Literal["own", "field"] = "own"
    noise_share: float = 0.0
    inner_steps: int = 5
    instant_window: float = 0.8
    instant_noise_share: float = 0.25

    def learning_rate(self, variable: str, update: str) -> tuple[float, float]:
        """The rates for a variable under an update."""
        return self.learning_rates[variable if update == "adam" else update]


@dataclass(frozen=True)
class Preset:
    """A checkpoint: how to recognise it, what to expect of it, and what is recommended for it.

    Attributes:
        checkpoint: its name or hub id.
        model: the fields of `ModelSpec`, and of its compression, that tell it from other
            checkpoints.
        status: whether the recommendation is from the paper or from BENCHMARKS.md; one that was
            never run is taken over from another model.
        source: where the recommendation comes from.
        licence: of the weights.
        frames, size: of the videos that the recommendation is for; size is (height, width).
        memory, time: what taking the motion of one clip needs, and who says so; None is unknown.
        trained: (frames, height, width) that the model was trained for, where these are others.
    """

    checkpoint: str
    model: Mapping[str, str | float]
    status: Status
    source: str
    licence: str
    frames: int
    size: tuple[int, int]
    recommended: Recommendation
    memory: str | None = None
    time: str | None = None
    trained: tuple[int, int, int] | None = None

    def describes(self, model: Mapping[str, Any]) -> bool:
        """Whether a model is this checkpoint, a copy of it, or a fine-tuned one, by those fields of
        its `ModelSpec` that are known.
        """
        return all(model.get(name, value) == value for name, value in self.model.items())


def recommended(spec: ModelSpec) -> Recommendation:
    """What is recommended for a model.

    A model that no preset describes gets the published values of its family, at its middle block.
    A family without a preset gets those of the same kind of position.
    """
    known = vars(spec.compression) | vars(spec)
    preset = _nearest(known)
    if preset.describes(known):
        return preset.recommended
    return replace(preset.recommended, block=spec.blocks // 2)


def trained_size(**model: str | int) -> VideoSize:
    """What a model with such fields of `ModelSpec` was trained for, where its own files do not say.

    Of a model that no preset describes it is taken to be that of the published one of its family.
    """
    preset = _nearest(model)
    return VideoSize(*(preset.trained or (preset.frames, *preset.size)))


def _nearest(model: Mapping[str, Any]) -> Preset:
    """The preset that describes a model, or else a published one: of its family, or at least of the
    same kind of position.
    """
    known = [preset for preset in presets() if preset.describes(model)]
    alike = [
        preset
        for preset in presets()
        if preset.status == "published" and preset.model["position"] == model["position"]
    ]
    alike.sort(key=lambda preset: preset.model["transformer"] != model["transformer"])
    return [*known, *alike][0]


@cache
def presets() -> tuple[Preset, ...]:
    """All presets that ship, sorted by file name."""
    return tuple(map(read_preset, sorted(Path(__file__).parent.glob("*.yaml"))))


def read_preset(file: Path) -> Preset:
    """A preset from its YAML file. Raises ValueError for a field too many or too few, and for a
    value that cannot be.
    """
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    preset, where = _filled(Preset, content, file.name), f"recommended in {file.name}"
    advice = _filled(Recommendation, preset.recommended, where)
    for name in ("noise_share", "instant_window", "instant_noise_share"):
        if not (isinstance(share := getattr(advice, name), int | float) and 0 <= share <= 1):
            raise ValueError(f"{where} has the {name} {share!r}: it is a number from 0 to 1.")
    if not (isinstance(advice.inner_steps, int) and advice.inner_steps > 0):
        raise ValueError(
            f"{where} has the inner_steps {advice.inner_steps!r}: it is a whole number from 1 up."
        )
    rates = {name: (first, last) for name, (first, last) in advice.learning_rates.items()}
    return replace(preset, recommended=replace(advice, learning_rates=rates))


def _filled(kind: type[T], values: Any, where: str) -> T:
    """A dataclass from a mapping; lists become tuples. Literals are checked."""
    assert isinstance(kind, type)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise ValueError(f"{where} is no mapping: it holds {', '.join(known)}.")
    needed = {name for name, field in known.items() if field.default is MISSING}
    if wrong := sorted(values.keys() - known.keys()):
        raise ValueError(
            f"{where} has the unknown field {wrong[0]!r}: it takes {', '.join(known)}."
        )
    if missing := sorted(needed - values.keys()):
        raise ValueError(f"{where} lacks the field {missing[0]!r}: add it.")
    for name, hint in get_type_hints(kind).items():
        words = get_args(hint)
        if get_origin(hint) is Literal and name in values and values[name] not in words:
            raise ValueError(
                f"{where} has the {name} {values[name]!r}: it is {' or '.join(words)}."
            )
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
