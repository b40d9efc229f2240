"""What the settings mean on one backbone: the guidance, the schedule, and what tells results of one
setting from those of another.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from ditflow.core.schedule import GuidanceKind, GuidanceWindow
from ditflow.models import Model
from ditflow.models.presets import recommended
from ditflow.motion import SIGNALS, MotionSignal
from ditflow.sampling.optimise import Guidance, Update

VariableKind = Literal["latents", "rotary_tables", "rotary_positions", "sinusoidal"]


@dataclass(frozen=True)
class Choices:
    """As the user gave them; None is what is recommended for the backbone."""

    variable: VariableKind | None
    signal: str | None
    signal_arguments: dict[str, Any] | None
    block: int | None
    update: Update
    window: float | tuple[int, int] | None
    learning_rate: tuple[float, float] | None
    inner_steps: int
    steps: int | None
    guidance_scale: float | None
    guidance: GuidanceKind | None
    injection_blocks: list[int] | None
    gradient_checkpointing: bool | None


class Method:
    """Choices on a backbone. Raises ValueError where they do not fit it."""

    def __init__(self, choices: Choices, backbone: Model) -> None:
        advice = recommended(backbone.spec.position, backbone.spec.blocks)
        signal = _signal(choices, advice.block)
        variable = _or(choices.variable, advice.variable) if signal is not None else "latents"
        self.backbone, self.negative_prompt = backbone, advice.negative_prompt
        self.schedule = backbone.schedule(
            _or(choices.steps, advice.steps),
            _or(choices.guidance_scale, advice.guidance_scale),
            choices.guidance,
        )
        self.guidance = Guidance(
            signal=signal,
            variable=variable,
            window=_or(choices.window, advice.window),
            learning_rate=_or(
                choices.learning_rate,
                advice.learning_rates[variable if choices.update == "adam" else choices.update],
            ),
            inner_steps=choices.inner_steps,
            injection_blocks=tuple(_or(choices.injection_blocks, advice.injection_blocks)),
            checkpointing=_or(choices.gradient_checkpointing, advice.checkpointing),
            update=choices.update,
        )
        self.window = self.guidance.check(backbone, len(self.schedule))
        if signal is not None and not len(self.window):
            raise ValueError(
                f"window {self.guidance.window} of {len(self.schedule)} steps guides none of them, so there is no motion to take."
            )

    @property
    def guided(self) -> GuidanceWindow:
        """The steps at which something is optimised."""
        return self.window if self.guidance.signal is not None else GuidanceWindow(0, 0)

    @property
    def provenance(self) -> dict[str, Any]:
        """Fields of an entry's metadata that do not depend on the clip."""
        return {
            "backbone_fingerprint": self.backbone.spec.fingerprint,
            "scheduler": self.backbone.spec.scheduler,
            "steps": len(self.schedule),
            "window": (self.window.start, self.window.stop),
            "guidance_scale": self.schedule.guidance_scale,
            "guidance": self.schedule.guidance,
            "signal": self.guidance.signal.describe() if self.guidance.signal is not None else None,
            "variable": self.guidance.variable,
            "update": self.guidance.update,
            "learning_rate": tuple(self.guidance.learning_rate),
            "inner_steps": self.guidance.inner_steps,
            "injection_blocks": self.guidance.injection_blocks,
            "backbone": self.backbone.spec.name,
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
        }

    @property
    def settings(self) -> dict[str, Any]:
        """All that a result depends on, but for the clip, as JSON values."""
        return {**self.provenance, "timesteps": self.schedule.timesteps}

    def __str__(self) -> str:
        guidance, (first, last) = self.guidance, self.guidance.learning_rate
        signal, window = (
            guidance.signal,
            f"steps {self.window.start} to {self.window.stop - 1} of {len(self.schedule)}",
        )
        if signal is None:
            injected = (
                f"keys and values of the clip in {window}"
                if len(self.window) and guidance.injection_blocks
                else "nothing of the clip"
            )
            return f"{self.backbone.spec.name}: {injected}, nothing optimised"
        rates = f"{guidance.inner_steps} updates ({guidance.update}) each at {first:g} to {last:g}"
        return f"{self.backbone.spec.name}: {guidance.variable} by {signal.name} at block {signal.block} in {window}, {rates}"


def _signal(choices: Choices, block: int) -> MotionSignal[Any] | None:
    """Raises ValueError for a name that is none, and for arguments that the signal does not
    take.
    """
    given = {"signal_arguments": choices.signal_arguments or None, "block": choices.block}
    if choices.signal is None:
        if unused := [name for name, value in given.items() if value is not None]:
            raise ValueError(
                f"{unused[0]} was given, but there is no signal: leave it out, or choose a signal out of {', '.join(SIGNALS)}."
            )
        return None
    if choices.signal not in SIGNALS:
        raise ValueError(f"unknown signal {choices.signal!r}: it is one of {', '.join(SIGNALS)}.")
    parser, signal = ArgumentParser(exit_on_error=False), SIGNALS[choices.signal]
    parser.add_class_arguments(signal, skip={"block"})
    try:
        arguments = parser.parse_object(choices.signal_arguments or {}).as_dict()
    except ArgumentError as error:
        takes = ", ".join(field.name for field in fields(signal) if field.name != "block")
        said = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"signal {choices.signal!r} takes {takes}; what was given does not fit ({said})."
        ) from None
    return signal(_or(choices.block, block), **arguments)


def _or(choice: Any, advice: Any) -> Any:
    return advice if choice is None else choice
