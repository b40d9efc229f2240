"""How motion is optimised: the settings of the method, what they need, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from ditflow.core.schedule import DenoisingSchedule, GuidanceWindow, Window, check_window
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import MotionField
from ditflow.fields.noise import check_share, on_latents
from ditflow.fields.positions import displaced, on_tokens
from ditflow.models.base import Model, ModelSpec
from ditflow.models.weights.offload import check_gradients
from ditflow.motion.base import MotionSignal
from ditflow.sampling.placement import Passes, Placement
from ditflow.sampling.reference import seen_at
from ditflow.sampling.savings import Savings
from ditflow.sampling.state import State, carry, start
from ditflow.sampling.variables import VARIABLES, Variable

Update = Literal["adam", "sgd", "score"]
Begin = Literal["own", "field"]
PROJECTIONS = 1 / 6  # of a block's work: two of its products with E x E weights out of 12


@dataclass(frozen=True)
class MotionGuidance:
    """How motion is optimised.

    `window` says which steps are guided: their fraction, their (start, stop), or "noise:SIGMA",
    those down to that level of noise. `learning_rate` goes from its first to its last value over
    the window, in units of the variable (`adam`) or as a factor of the gradient (`sgd`, `score`).
    In the window, keys and values of `injection_blocks` come from the reference. Without a `signal`
    nothing is optimised. `checkpointing` saves memory. `savings` are approximations.
    Optimised positions act in `passes` of the prompt's guidance. They begin at the model's `own`
    places or where the clip's `field` puts them, and `noise_share` of the initial noise moves along
    that field. The loss sees them in full; in the conditional pass a step is taken with
    `placement.balance` of them, as of a field.

    The update `score` takes one gradient at the latents. It subtracts it from the latents after the
    scheduler's step, times the noise of both levels: MotionClone (Ling et al., 2406.05338,
    equation 2) in the additive form of its code. Inside the model's output, as the equation reads,
    it would climb wherever the scheduler predicts clean latents from that output. An entry keeps
    what was denoised at each guided step, so it brings the correction of every guided step but the
    last, which acts after it.
    """

    signal: MotionSignal[Any] | None
    variable: str = "rotary_positions"
    window: Window = 0.5
    learning_rate: tuple[float, float] = (0.04, 0.02)
    inner_steps: int = 5
    injection_blocks: tuple[int, ...] = (0,)
    checkpointing: bool = False
    update: Update = "adam"
    passes: Passes = "both"
    begin: Begin = "own"
    noise_share: float = 0.0
    savings: Savings = Savings()

    def __post_init__(self) -> None:
        if self.variable not in VARIABLES:
            known = ", ".join(VARIABLES)
            raise ValueError(f"unknown variable {self.variable!r}: it is one of {known}.")
        if self.inner_steps < 1:
            raise ValueError(
                f"inner_steps={self.inner_steps}: a guided step needs at least one update; "
                "for none, use window=0."
            )
        if not all(0 <= rate < math.inf for rate in self.learning_rate):
            raise ValueError(
                f"learning_rate={self.learning_rate}: its first and its last value must be finite "
                "and not below 0."
            )
        if self.update not in get_args(Update):
            known = ", ".join(get_args(Update))
            raise ValueError(f"unknown update {self.update!r}: it is one of {known}.")
        check_share(self.noise_share)
        check_window(self.window)
        Placement(self.passes)  # which checks it
        if self.begin not in get_args(Begin):
            known = ", ".join(get_args(Begin))
            raise ValueError(f"unknown begin {self.begin!r}: it is one of {known}.")
        if self.begin == "field" and self.variable == "latents":
            raise ValueError(
                "begin 'field' puts tokens where their content was, and latents have no places: "
                "leave it out, or let their noise move along by noise_share."
            )
        if self.update == "score" and (self.variable, self.inner_steps) != ("latents", 1):
            given = f"variable {self.variable!r} and inner_steps={self.inner_steps}"
            raise ValueError(
                f"update 'score' is one gradient of the latents at each step, so {given} make no "
                "sense: use variable 'latents' and inner_steps=1."
            )

    @property
    def kind(self) -> type[Variable]:
        """What is optimised; without a signal the latents pass through."""
        return VARIABLES["latents" if self.signal is None else self.variable]

    def check(self, model: Model, schedule: DenoisingSchedule) -> GuidanceWindow:
        """The window on a schedule.

        Raises ValueError where variable, blocks, view or window do not fit the model, and where the
        way in which its weights are offloaded would make gradients wrong.
        """
        model.check_blocks(self.injection_blocks)
        self.kind.check(model)
        if self.signal is not None:
            signal = self.signal
            self.savings.check(signal)
            check_gradients(model.experts, checkpointing=self.checkpointing)
            model.check_blocks([*signal.capture, *signal.features, *signal.text])
            seen_at(model, signal.looks)
        return GuidanceWindow.of(self.window, schedule)

    @property
    def follows(self) -> bool:
        """Whether the clips' motion fields are needed."""
        return self.begin == "field" or self.noise_share > 0

    def start(
        self,
        model: Model,
        size: VideoSize,
        names: Sequence[str],
        seeds: Sequence[int],
        fields: Sequence[MotionField] = (),
    ) -> State:
        """Before the first step: noise for each clip, and the variable where it begins.

        `fields` are the clips', where the guidance `follows` them.
        """
        state, places, compression = start(model, size, names, seeds), None, model.spec.compression
        if self.noise_share:
            state = carry(state, on_latents(fields, compression, size), self.noise_share)
        if self.begin == "field":
            moved = on_tokens(fields, compression, size).to(model.device)
            places = displaced(model.positions(compression.grid(size)), moved)
        return replace(state, parameter=self.kind.start(model, state.noise, places).parameter)

    def forward_equivalents(self, schedule: DenoisingSchedule, spec: ModelSpec) -> float:
        """What a video costs, in forward passes of one sample through the whole transformer.

        VAE and text encoder are left out. A pass that ends early counts by its blocks, a backward
        pass as two forward ones, recomputation under checkpointing as one more. It is the most
        where the savings depend on what they see. What they spare of scores is not in it.
        """
        guided, signal = len(GuidanceWindow.of(self.window, schedule)), self.signal
        plain = spec.passes_of(schedule) + guided * _depth(self.injection_blocks) / spec.blocks
        if signal is None or not guided:
            return plain
        depth = _depth(signal.capture, signal.features) / spec.blocks
        looks = signal.clips_shown * (guided if signal.looks.anew else 1)
        fresh = self.savings.gradients(guided * self.inner_steps)
        updates = fresh * (4 if self.checkpointing else 3)
        back = signal.clips_shown * len(schedule) * (signal.looks.timestep == "inverted")
        return plain + back + depth * (looks + updates)


def _depth(capture: Collection[int] = (), features: Collection[int] = ()) -> float:
    """How many blocks run until the last of these is recorded."""
    recorded = [*(block + PROJECTIONS for block in capture), *(block + 1 for block in features)]
    return max(recorded, default=0)
