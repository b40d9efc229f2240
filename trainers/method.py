"""What the settings mean on one backbone: the guidance, the schedule, and what tells results of one setting from those of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ditflow.backbones import Backbone
from ditflow.guidance import Guidance
from ditflow.motion import SIGNALS
from ditflow.recommended import recommended
from ditflow.schedule import GuidanceKind

VariableKind = Literal["latents", "rotary_tables", "rotary_positions", "sinusoidal"]


@dataclass(frozen=True)
class Choices:
    """As the user gave them; None is what is recommended for the backbone."""

    variable: VariableKind | None
    signal: str
    block: int | None
    window: float | tuple[int, int] | None
    learning_rate: tuple[float, float] | None
    inner_steps: int
    steps: int | None
    guidance_scale: float | None
    guidance: GuidanceKind | None
    injection_blocks: list[int] | None
    gradient_checkpointing: bool


class Method:
    """Choices on a backbone. Raises ValueError where they do not fit it."""

    def __init__(self, choices: Choices, backbone: Backbone) -> None:
        advice = recommended(backbone.spec.position, backbone.spec.blocks)
        if choices.signal not in SIGNALS:
            raise ValueError(f"unknown signal {choices.signal!r}: it is one of {', '.join(SIGNALS)}.")
        signal: Any = SIGNALS[choices.signal]
        variable = _or(choices.variable, advice.variable)
        self.backbone, self.negative_prompt = backbone, advice.negative_prompt
        self.schedule = backbone.schedule(_or(choices.steps, advice.steps), _or(choices.guidance_scale, advice.guidance_scale), choices.guidance)
        self.guidance = Guidance(
            signal=signal(_or(choices.block, advice.block)),
            variable=variable,
            window=_or(choices.window, advice.window),
            learning_rate=_or(choices.learning_rate, advice.learning_rates[variable]),
            inner_steps=choices.inner_steps,
            injection_blocks=tuple(_or(choices.injection_blocks, advice.injection_blocks)),
            checkpointing=choices.gradient_checkpointing,
        )
        self.window = self.guidance.check(backbone, len(self.schedule))
        if not len(self.window):
            raise ValueError(f"window {self.guidance.window} of {len(self.schedule)} steps guides none of them, so there is no motion to take.")

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
            "signal": self.guidance.signal.describe(),
            "variable": self.guidance.variable,
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
        signal, window = guidance.signal, f"steps {self.window.start} to {self.window.stop - 1} of {len(self.schedule)}"
        rates = f"{guidance.inner_steps} updates each at {first:g} to {last:g}"
        return f"{self.backbone.spec.name}: {guidance.variable} by {signal.name} at block {signal.block} in {window}, {rates}"


def _or(choice: Any, advice: Any) -> Any:
    return advice if choice is None else choice
