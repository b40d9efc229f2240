"""Guided denoising: the method's one body.

Pondaven et al., CVPR 2025 (2412.07776), section 4.2: at each step of a window, K Adam updates of a variable pull the motion of what is being generated
towards the reference's, then one classifier-free-guided step is taken with it. Adam is fresh at each step, the variable is carried on, and positions
are the model's own again after the window.
"""

# B batch, K inner steps, F latent frames, C channels, Hl Wl latent rows and columns, L text tokens

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ditflow.backbones.base import Backbone
from ditflow.grid import VideoSize
from ditflow.injection import reference_key_value
from ditflow.motion.base import MotionSignal
from ditflow.sampling import clip_generator, denoise, initial_noise
from ditflow.schedule import DenoisingSchedule, GuidanceWindow, Step
from ditflow.taps import KeyValue
from ditflow.variables import VARIABLES, Variable


@dataclass(frozen=True)
class Guidance:
    """How motion is optimised.

    `window` is the fraction of the steps that is guided, or their (start, stop). `learning_rate` goes from its first to its last value over the
    window, in units of the variable. In the window, keys and values of `injection_blocks` come from the reference. `checkpointing` saves memory.
    """

    signal: MotionSignal
    variable: str = "rotary_positions"
    window: float | tuple[int, int] = 0.5
    learning_rate: tuple[float, float] = (0.04, 0.02)
    inner_steps: int = 5
    injection_blocks: tuple[int, ...] = (0,)
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.variable not in VARIABLES:
            raise ValueError(f"unknown variable {self.variable!r}: it is one of {', '.join(VARIABLES)}.")
        if self.inner_steps < 1:
            raise ValueError(f"inner_steps={self.inner_steps}: a guided step needs at least one update; for none, use window=0.")
        if not all(0 <= rate < math.inf for rate in self.learning_rate):
            raise ValueError(f"learning_rate={self.learning_rate}: its first and its last value must be finite and not below 0.")

    def check(self, backbone: Backbone, steps: int) -> GuidanceWindow:
        """The window on a schedule of so many steps. Raises ValueError where variable, blocks or window do not fit."""
        VARIABLES[self.variable].check(backbone)
        backbone.check_blocks([*self.signal.capture, *self.signal.features, *self.injection_blocks])
        return GuidanceWindow.of(self.window, steps)


@dataclass(frozen=True)
class GuidanceState:
    """Where a batch of clips has come to between two denoising steps: all that is needed to go on, bit by bit.

    `step` is the index of the next step, `parameter` the variable's. `history` and `losses` have one member for each guided step so far: the parameter
    (B, ...) after its K updates, and the losses (K, B) before each. `generators` are the clips' random states, uint8 (B, .).
    """

    step: int
    latents: Tensor
    noise: Tensor
    parameter: Tensor
    generators: Tensor
    previous_x0: Tensor | None = None
    history: tuple[Tensor, ...] = ()
    losses: tuple[Tensor, ...] = ()

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors on the CPU that share no memory, for one safetensors file."""
        named = {"step": torch.tensor(self.step), "latents": self.latents, "noise": self.noise, "parameter": self.parameter, "generators": self.generators}
        if self.previous_x0 is not None:
            named["previous_x0"] = self.previous_x0
        copies = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in named.items()}
        return copies | ({"history": torch.stack(self.history), "losses": torch.stack(self.losses)} if self.history else {})

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu") -> Self:
        """The inverse of `tensors`, with what the next step needs on `device`."""
        history, losses = (tuple(tensors[name].unbind()) if name in tensors else () for name in ("history", "losses"))
        current = {name: tensors[name].to(device) for name in ("latents", "noise", "parameter", "previous_x0") if name in tensors}
        return cls(step=int(tensors["step"]), generators=tensors["generators"], history=history, losses=losses, **current)


def start_guidance(backbone: Backbone, guidance: Guidance, size: VideoSize, names: Sequence[str], seeds: Sequence[int]) -> GuidanceState:
    """Before the first step: noise from a generator for each clip, the variable at the model's own positions."""
    generators = [clip_generator(name, seed) for name, seed in zip(names, seeds, strict=True)]
    noise = initial_noise(backbone.spec.compression.latent_shape(size), generators, backbone.device)
    parameter = VARIABLES[guidance.variable].start(backbone, noise, size).parameter
    return GuidanceState(0, noise, noise, parameter, _states(generators))


@torch.no_grad()
def reference_motion(backbone: Backbone, signal: MotionSignal, reference_latents: Tensor, empty: Tensor, names: Sequence[str]) -> Tensor:
    """The motion of reference clips (B, F, C, Hl, Wl): clean, at timestep 0, with the empty prompt's embedding (b, L, .). Warns of a clip without any."""
    with backbone.tapped(signal.capture, signal.features, stop_early=True) as recording:
        backbone.predict(reference_latents, 0, empty)
    reference = signal.reference(recording, backbone.spec.compression.grid_of(reference_latents))
    for name, static in zip(names, signal.is_static(reference).tolist(), strict=True):
        if static:
            warnings.warn(f"clip {name!r} has no motion that {signal.name} sees: nothing will be optimised for it.", stacklevel=3)
    return reference


def guided_step(
    backbone: Backbone,
    guidance: Guidance,
    schedule: DenoisingSchedule,
    state: GuidanceState,
    *,
    reference: Tensor,
    reference_latents: Tensor,
    text: Tensor,
    negative: Tensor,
) -> GuidanceState:
    """One denoising step of a batch of clips; inside the window, after K updates of the variable. `text` and `negative` are (b, L, .)."""
    step, window, generators = schedule[state.step], guidance.check(backbone, len(schedule)), _generators(state.generators)
    latents, position, key_value = state.latents, None, None
    if window.covers(step):
        key_value = reference_key_value(backbone, reference_latents, state.noise, step, text, guidance.injection_blocks)
        variable = VARIABLES[guidance.variable].at(backbone, state.parameter).carried(latents)
        learning_rate = window.learning_rate(step, guidance.learning_rate)
        variable, losses = guide(backbone, guidance, variable, latents, step, learning_rate, text=text, reference=reference, key_value=key_value)
        state = replace(state, parameter=variable.parameter, history=(*state.history, variable.parameter.cpu()), losses=(*state.losses, losses.cpu()))
        latents, position = variable.latents(latents), variable.position
    latents, x0 = denoise(backbone, latents, step, text, negative, position=position, previous_x0=state.previous_x0, generators=generators, key_value=key_value)
    return replace(state, step=step.index + 1, latents=latents, previous_x0=x0, generators=_states(generators))


@torch.enable_grad()
def guide(
    backbone: Backbone,
    guidance: Guidance,
    variable: Variable,
    latents: Tensor,
    step: Step,
    learning_rate: float,
    *,
    text: Tensor,
    reference: Tensor,
    key_value: KeyValue | None = None,
) -> tuple[Variable, Tensor]:
    """K Adam updates of the variable at one step, and the losses (K, B) before each. Clips are independent: their losses are summed."""
    signal, grid = guidance.signal, backbone.spec.compression.grid_of(latents)
    parameter = variable.parameter.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=learning_rate)
    losses = []
    with backbone.tapped(signal.capture, signal.features, stop_early=True, key_value=key_value, checkpointing=guidance.checkpointing) as recording:
        for _ in range(guidance.inner_steps):
            current = variable.replaced(parameter)
            backbone.predict(current.latents(latents), step.timestep, text, current.position)
            loss = signal.loss(recording, grid, reference)
            (parameter.grad,) = torch.autograd.grad(loss.sum(), parameter)
            optimizer.step()
            losses.append(loss.detach())
    return variable.replaced(parameter.detach()), torch.stack(losses)


def _states(generators: Sequence[torch.Generator]) -> Tensor:
    return torch.stack([generator.get_state() for generator in generators])


def _generators(states: Tensor) -> list[torch.Generator]:
    generators = [torch.Generator("cpu") for _ in states]
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state.clone())  # torch 2.13 crashes on a view that does not start its storage
    return generators
