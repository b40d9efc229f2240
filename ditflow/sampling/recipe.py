"""How motion is optimised on one model: what the user chose, and what is recommended for the rest.

This is the only place where a preset becomes settings. `fit`, `test` and `transfer_motion` use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from torch import Tensor

from ditflow.core.picture import Picture
from ditflow.core.schedule import DenoisingSchedule, GuidanceKind, GuidanceWindow, Scale, Window
from ditflow.models import Model
from ditflow.models.presets import recommended
from ditflow.motion import AttentionMotionFlow, MotionSignal
from ditflow.motion.base import Words
from ditflow.sampling.control import Control
from ditflow.sampling.guidance import Begin, MotionGuidance, Update
from ditflow.sampling.optimise import motion_control
from ditflow.sampling.placement import Passes
from ditflow.sampling.reference import reference_motion
from ditflow.sampling.savings import Savings

T = TypeVar("T")
NEWER = ("savings", "quantised")  # empty, they leave settings as batches in flight had them before


@dataclass(frozen=True)
class Recipe:
    """Settings that fit a model: the guidance, the schedule, and the guided window on it.

    `negative_prompt` is for clips that name none.
    """

    backbone: Model
    guidance: MotionGuidance
    schedule: DenoisingSchedule
    window: GuidanceWindow
    negative_prompt: str

    @property
    def guided(self) -> GuidanceWindow:
        """The steps at which something is optimised."""
        return self.window if self.guidance.signal is not None else GuidanceWindow(0, 0)

    @property
    def provenance(self) -> dict[str, Any]:
        """Fields of an entry's metadata that do not depend on the clip."""
        spec, guidance = self.backbone.spec, self.guidance
        return {
            "backbone_fingerprint": spec.fingerprint,
            "scheduler": spec.scheduler,
            "steps": len(self.schedule),
            "window": (self.window.start, self.window.stop),
            "guidance_scale": self.schedule.guidance_scale,
            "guidance": self.schedule.guidance,
            "signal": guidance.signal.describe() if guidance.signal is not None else None,
            "variable": guidance.variable,
            "update": guidance.update,
            "passes": guidance.passes,
            "begin": guidance.begin,
            "noise_share": guidance.noise_share,
            "savings": str(guidance.savings),
            "learning_rate": tuple(guidance.learning_rate),
            "inner_steps": guidance.inner_steps,
            "injection_blocks": guidance.injection_blocks,
            "backbone": spec.name,
            "loras": tuple(map(asdict, spec.loras)),
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
            "quantised": spec.quantised,
        }

    def control(
        self,
        latents: Tensor,
        seen_with: Tensor,
        names: Sequence[str],
        noise: Tensor,
        words: Words | None = None,
        picture: Picture | None = None,
        begins: int = 0,
    ) -> Control:
        """What follows the motion of reference clips, which are looked at here.

        `latents` (B, F, C, Hl, Wl) are the clips', clean; `noise` is the generation's own.
        `seen_with` (b, L, .) is the prompt that the signal looks at them with; `words` says where
        its words are, and `picture` is what the model is shown of the clips' own first frames.
        `begins` is the first step that it acts on.
        """
        told: Any = {"noise": noise, "words": words, "picture": picture}
        reference = reference_motion(
            self.backbone, self.guidance.signal, latents, seen_with, names, **told
        )
        return motion_control(self.backbone, self.guidance, self.schedule, reference, begins)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that a result depends on, except for the clip, as JSON values."""
        told = {name: x for name, x in self.provenance.items() if x or name not in NEWER}
        return {**told, "timesteps": self.schedule.timesteps}

    @property
    def former(self) -> dict[str, Any]:
        """The provenance that older entries of the same recipe have otherwise."""
        return {"backbone_fingerprint": self.backbone.spec.saved_fingerprint}

    def __str__(self) -> str:
        guidance, name = self.guidance, self.backbone.spec.name
        signal, steps = guidance.signal, len(self.schedule)
        window = f"steps {self.window.start} to {self.window.stop - 1} of {steps}"
        if signal is None:
            injects = len(self.window) and guidance.injection_blocks
            kept = f"keys and values of the clip in {window}" if injects else "nothing of the clip"
            return f"{name}: {kept}, nothing optimised"
        first, last = guidance.learning_rate
        rates = f"{guidance.inner_steps} updates ({guidance.update}) each at {first:g} to {last:g}"
        where = f"{signal.name} at block {signal.block} in {window}"
        said = [f"{name}: {guidance.variable} by {where}", rates]
        if guidance.passes == "conditional":
            said.append("in the conditional pass")
        if guidance.begin == "field":
            said.append("from the clip's field")
        if guidance.noise_share:
            said.append(f"{guidance.noise_share:g} of the noise moves along")
        if guidance.savings != Savings():
            said.append(f"approximated: {guidance.savings}")
        return ", ".join(said)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the user chose. None is what is recommended for the model.

    Only `signal` None means itself: nothing is optimised. A signal without a block is read at the
    recommended one.
    """

    variable: str | None = None
    signal: MotionSignal[Any] | None = AttentionMotionFlow()
    update: Update = "adam"
    window: Window | None = None
    learning_rate: tuple[float, float] | None = None
    inner_steps: int | None = None
    passes: Passes | None = None
    begin: Begin | None = None
    noise_share: float | None = None
    steps: int | None = None
    guidance_scale: Scale | None = None
    guidance: GuidanceKind | None = None
    injection_blocks: tuple[int, ...] | None = None
    checkpointing: bool | None = None
    savings: Savings = Savings()

    def on(self, backbone: Model, guidance: MotionGuidance | None = None) -> Recipe:
        """The recipe for a model; a `guidance` stands for all that is chosen of it here.

        Raises ValueError where the choices do not fit the model, and for a signal that guides no
        step.
        """
        advice = recommended(backbone.spec)
        schedule = backbone.schedule(
            given_or(self.steps, advice.steps),
            given_or(self.guidance_scale, advice.guidance_scale),
            self.guidance,
        )
        guidance = self.motion_guidance(backbone) if guidance is None else guidance
        window = guidance.check(backbone, schedule)
        if guidance.signal is not None and not len(window):
            raise ValueError(
                f"window {guidance.window} of {len(schedule)} steps guides none of them, so there "
                "is no motion to take."
            )
        return Recipe(backbone, guidance, schedule, window, advice.negative_prompt)

    def motion_guidance(self, backbone: Model) -> MotionGuidance:
        """How motion is optimised, without a look at whether it fits the model."""
        advice, signal = recommended(backbone.spec), self.signal
        variable = "latents" if signal is None else given_or(self.variable, advice.variable)
        again = advice.checkpointing
        begin = "own" if variable == "latents" else advice.begin  # latents have no places
        return MotionGuidance(
            signal=None if signal is None else signal.placed(advice.block),
            variable=variable,
            window=advice.window if self.window is None else self.window,
            learning_rate=given_or(self.learning_rate, advice.learning_rate(variable, self.update)),
            inner_steps=given_or(self.inner_steps, advice.inner_steps),
            injection_blocks=given_or(self.injection_blocks, advice.injection_blocks),
            checkpointing=given_or(self.checkpointing, given_or(backbone.checkpointing, again)),
            update=self.update,
            passes=given_or(self.passes, advice.passes),
            begin=given_or(self.begin, begin),
            noise_share=given_or(self.noise_share, 0.0 if signal is None else advice.noise_share),
            savings=self.savings,
        )


def given_or(choice: T | None, advice: T) -> T:
    """What was chosen, or what is recommended where nothing was."""
    return advice if choice is None else choice
