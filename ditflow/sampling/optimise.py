"""Guided denoising: the method's one body.

Pondaven et al., CVPR 2025 (2412.07776), section 4.2: at each step of a window, K updates of a
variable pull the motion of what is being generated towards the reference's, then one
classifier-free-guided step is taken with it. Adam is fresh at each step, the variable is carried
on, and positions are the model's own again after the window. Other updates are those of the methods
that are compared: plain gradient descent, and MotionClone's score guidance.
"""

# B batch (b: 1 or B), K inner steps, F latent frames, C channels, Hl Wl latent rows and columns, L
# text tokens

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ditflow.core.schedule import DenoisingSchedule, GuidanceWindow, Step
from ditflow.core.sizes import VideoSize
from ditflow.core.tokens import KeyValue
from ditflow.models.base import Model
from ditflow.motion.base import MotionSignal
from ditflow.sampling.key_value import reference_key_value
from ditflow.sampling.loop import clip_generator, denoise, initial_noise
from ditflow.sampling.reference import Reference, motion_of, reference_motion, seen_at
from ditflow.sampling.state import GuidanceState, generators_of, states_of
from ditflow.sampling.variables import VARIABLES, Variable

__all__ = [
    "Guidance",
    "GuidanceState",
    "Reference",
    "Update",
    "guide",
    "guided_step",
    "reference_motion",
    "start_guidance",
]

Update = Literal["adam", "sgd", "score"]
PROJECTIONS = 1 / 6  # of a block's work: two of its products with E x E weights out of 12
LOSS_SCALE = (
    2.0**16
    # of a float16 backbone's loss on its way back, as published: most of its gradients are too small
    # for float16
)


@dataclass(frozen=True)
class Guidance:
    """How motion is optimised.

    `window` is the fraction of the steps that is guided, or their (start, stop). `learning_rate`
    goes from its first to its last value over the window, in units of the variable (`adam`) or as a
    factor of the gradient (`sgd`, `score`). In the window, keys and values of `injection_blocks`
    come from the reference; without a `signal` nothing else does, and nothing is optimised.
    `checkpointing` saves memory.

    The update `score` takes one gradient at the latents, and subtracts it from the latents after
    the scheduler's step, times the square root of both
    noise levels: MotionClone (Ling et al., 2406.05338, equation 2) in the additive form of its
    code. Put into the model's output instead, as the equation reads, it would climb wherever the
    scheduler predicts clean latents from it. Kept of each guided step is what was denoised, so an
    entry brings the correction of every guided step but the last, which acts after it.
    """

    signal: MotionSignal[Any] | None
    variable: str = "rotary_positions"
    window: float | tuple[int, int] = 0.5
    learning_rate: tuple[float, float] = (0.04, 0.02)
    inner_steps: int = 5
    injection_blocks: tuple[int, ...] = (0,)
    checkpointing: bool = False
    update: Update = "adam"

    def __post_init__(self) -> None:
        if self.variable not in VARIABLES:
            raise ValueError(
                f"unknown variable {self.variable!r}: it is one of {', '.join(VARIABLES)}."
            )
        if self.inner_steps < 1:
            raise ValueError(
                f"inner_steps={self.inner_steps}: a guided step needs at least one update; for none, use window=0."
            )
        if not all(0 <= rate < math.inf for rate in self.learning_rate):
            raise ValueError(
                f"learning_rate={self.learning_rate}: its first and its last value must be finite and not below 0."
            )
        if self.update not in get_args(Update):
            raise ValueError(
                f"unknown update {self.update!r}: it is one of {', '.join(get_args(Update))}."
            )
        if self.update == "score" and (self.variable, self.inner_steps) != ("latents", 1):
            given = f"variable {self.variable!r} and inner_steps={self.inner_steps}"
            raise ValueError(
                f"update 'score' is one gradient of the latents at each step, so {given} make no sense: use variable 'latents' and inner_steps=1."
            )

    @property
    def kind(self) -> type[Variable]:
        """What is optimised; without a signal the latents pass through."""
        return VARIABLES["latents" if self.signal is None else self.variable]

    def check(self, backbone: Model, steps: int) -> GuidanceWindow:
        """The window on a schedule of so many steps. Raises ValueError where variable, blocks, view
        or window do not fit.
        """
        backbone.check_blocks(self.injection_blocks)
        self.kind.check(backbone)
        if self.signal is not None:
            backbone.check_blocks([*self.signal.capture, *self.signal.features])
            seen_at(backbone, self.signal.looks, timestep=0)
        return GuidanceWindow.of(self.window, steps)

    def forward_equivalents(self, schedule: DenoisingSchedule, blocks_total: int) -> float:
        """What a video costs, in forward passes of one sample through the whole transformer,
        without VAE and text encoder.

        A pass that ends early counts by its blocks, a backward pass as two forward ones,
        recomputation under checkpointing as one more.
        """
        guided, signal = len(GuidanceWindow.of(self.window, len(schedule))), self.signal
        injection = guided * _depth(self.injection_blocks) / blocks_total
        if signal is None or not guided:
            return 2 * len(schedule) + injection
        depth = _depth(signal.capture, signal.features) / blocks_total
        looks = signal.clips_shown * (guided if signal.looks.timestep == "match" else 1)
        return (
            2 * len(schedule)
            + injection
            + depth * (looks + guided * self.inner_steps * (4 if self.checkpointing else 3))
        )


def start_guidance(
    backbone: Model, guidance: Guidance, size: VideoSize, names: Sequence[str], seeds: Sequence[int]
) -> GuidanceState:
    """Before the first step: noise from a generator for each clip, the variable at the model's own
    positions.
    """
    generators = [clip_generator(name, seed) for name, seed in zip(names, seeds, strict=True)]
    noise = initial_noise(backbone.spec.compression.latent_shape(size), generators, backbone.device)
    return GuidanceState(
        0, noise, noise, guidance.kind.start(backbone, noise, size).parameter, states_of(generators)
    )


def guided_step(
    backbone: Model,
    guidance: Guidance,
    schedule: DenoisingSchedule,
    state: GuidanceState,
    *,
    reference: Reference,
    text: Tensor,
    negative: Tensor,
) -> GuidanceState:
    """One denoising step of a batch of clips; inside the window, after K updates of the variable.
    `text` and `negative` are (b, L, .).
    """
    step, window, generators = (
        schedule[state.step],
        guidance.check(backbone, len(schedule)),
        generators_of(state.generators),
    )
    latents, position, key_value, after = state.latents, None, None, None
    if window.covers(step):
        key_value = reference_key_value(
            backbone, reference.latents, state.noise, step, text, guidance.injection_blocks
        )
    if window.covers(step) and guidance.signal is not None:
        variable = guidance.kind.at(backbone, state.parameter).carried(latents)
        rate = window.learning_rate(step, guidance.learning_rate) * (
            score_scale(backbone, step) if guidance.update == "score" else 1
        )
        motion = motion_of(backbone, guidance.signal, reference, state.noise, step.timestep)
        updated, losses = guide(
            backbone,
            guidance,
            variable,
            latents,
            step,
            rate,
            text=text,
            motion=motion,
            key_value=key_value,
        )
        if guidance.update == "score":
            after = updated.parameter - latents
        else:
            variable = updated
        state = replace(
            state,
            parameter=variable.parameter,
            history=(*state.history, variable.parameter.cpu()),
            losses=(*state.losses, losses.cpu()),
        )
        latents, position = variable.latents(latents), variable.position
    latents, x0 = denoise(
        backbone,
        latents,
        step,
        text,
        negative,
        position=position,
        previous_x0=state.previous_x0,
        generators=generators,
        key_value=key_value,
    )
    latents = latents if after is None else latents + after
    return replace(
        state,
        step=step.index + 1,
        latents=latents,
        previous_x0=x0,
        generators=states_of(generators),
    )


@torch.enable_grad()
def guide(
    backbone: Model,
    guidance: Guidance,
    variable: Variable,
    latents: Tensor,
    step: Step,
    learning_rate: float,
    *,
    text: Tensor,
    motion: Any,
    key_value: KeyValue | None = None,
) -> tuple[Variable, Tensor]:
    """K updates of the variable at one step, and the losses (K, B) before each. Clips are
    independent: their losses are summed.

    Through a float16 backbone each clip's loss goes back multiplied by a power of two, and its
    gradient is divided by it in float32.
    """
    signal, grid = guidance.signal, backbone.spec.compression.grid_of(latents)
    assert signal is not None
    parameter = variable.parameter.clone().requires_grad_()
    optimizer = (torch.optim.Adam if guidance.update == "adam" else torch.optim.SGD)(
        [parameter], lr=learning_rate
    )
    scale = torch.full(
        parameter.shape[:1],
        LOSS_SCALE if backbone.dtype == torch.float16 else 1.0,
        device=parameter.device,
    )
    losses = []
    with backbone.tapped(
        signal.capture,
        signal.features,
        stop_early=True,
        key_value=key_value,
        checkpointing=guidance.checkpointing,
    ) as recording:
        for _ in range(guidance.inner_steps):
            current = variable.replaced(parameter)
            backbone.predict(current.latents(latents), step.timestep, text, current.position)
            loss = signal.loss(recording, grid, motion)
            parameter.grad, scale = _gradient(loss, parameter, scale)
            optimizer.step()
            losses.append(loss.detach())
            # which may hold what was kept for the backward pass, while the next forward pass runs
            del loss
    return variable.replaced(parameter.detach()), torch.stack(losses)


def score_scale(backbone: Model, step: Step) -> float:
    """sqrt((1 - a) (1 - a')) for the signal shares a at this timestep and a' at the following one,
    where the video is clean after the last.
    """
    levels = backbone.noise_levels
    return (
        float(levels[step.timestep] * levels[step.following]) ** 0.5 if step.following >= 0 else 0.0
    )


def _gradient(loss: Tensor, parameter: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Of each clip's loss (B,) at its row of the parameter, and the scales (B,), powers of two,
    that it went back with: halved where it overflows.
    """
    while True:
        (gradient,) = torch.autograd.grad(
            (loss * scale).sum(), parameter, retain_graph=bool(scale.max() > 1)
        )
        overflows = (scale > 1) & loss.isfinite() & ~gradient.flatten(1).isfinite().all(dim=1)
        if not overflows.any():
            return gradient / scale.view(-1, *[1] * (gradient.ndim - 1)), scale
        scale = scale.where(~overflows, scale / 2)


def _depth(capture: Collection[int] = (), features: Collection[int] = ()) -> float:
    """How many blocks run until the last of these is recorded."""
    return max(
        [*(block + PROJECTIONS for block in capture), *(block + 1 for block in features)], default=0
    )
