"""How far a batch of clips has come between two denoising steps.

It is all that is needed to go on, bit by bit.
"""

# B batch, K inner steps, F latent frames, C channels, Hl Wl latent rows and columns

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ditflow.core.sizes import VideoSize
from ditflow.fields.noise import all_carried
from ditflow.models.base import Model

# what the next step needs
CURRENT = ("latents", "noise", "parameter", "memory", "gradient", "pace")


@dataclass(frozen=True)
class State:
    """`step` is the index of the next step.

    `latents` and the initial `noise` are (B, F, C, Hl, Wl). `parameter` (B, ...) is the value of
    the variable that is optimised, if there is one. `history` and `losses` have one member for each
    guided step so far: the parameter (B, ...) that was denoised with, and the losses (K, B) before
    each update. `generators` are the clips' random states, uint8 (B, .). `memory` (B, M, F, C, Hl,
    Wl) is what the solver remembers of the steps before. A `gradient` (B, ...) of the parameter is
    there where savings take it again, with its `pace` (B, 2).
    """

    step: int
    latents: Tensor
    noise: Tensor
    generators: Tensor
    parameter: Tensor | None = None
    memory: Tensor | None = None
    history: tuple[Tensor, ...] = ()
    losses: tuple[Tensor, ...] = ()
    gradient: Tensor | None = None
    pace: Tensor | None = None

    @classmethod
    def begin(cls, noise: Tensor, generators: Sequence[torch.Generator]) -> Self:
        """Before the first step, at initial noise; one generator for each clip."""
        return cls(0, noise, noise, states_of(generators))

    @property
    def previous_x0(self) -> Tensor:
        """The clean latents that the last step predicted; there is none before the first."""
        assert self.memory is not None
        return self.memory[:, 0]

    @classmethod
    def stacked(cls, states: Sequence[Self]) -> Self:
        """The clips of several states at one step as one batch, as long as nothing is optimised."""
        assert len({state.step for state in states}) == 1, "clips of a batch are at one step"
        assert not any(state.history for state in states), "what is optimised stays in its batch"
        named: dict[str, Tensor | None] = {}
        for name in ("generators", *CURRENT):
            found = [x for state in states if (x := getattr(state, name)) is not None]
            named[name] = torch.cat(found) if found else None
        return cls(step=states[0].step, **named)  # type: ignore[arg-type]

    def rows(self) -> list[Self]:
        """Each clip's own state."""
        assert not self.history, "what is optimised stays in its batch"
        names = [name for name in ("generators", *CURRENT) if getattr(self, name) is not None]
        rows = zip(*(getattr(self, name).split(1) for name in names), strict=True)
        return [replace(self, **dict(zip(names, row, strict=True))) for row in rows]

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors on the CPU that share no memory, for one safetensors file."""
        named = {"step": torch.tensor(self.step), "generators": self.generators}
        named |= {name: x for name in CURRENT if (x := getattr(self, name)) is not None}
        copies = {
            name: tensor.cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in named.items()
        }
        if not self.history:
            return copies
        return copies | {"history": torch.stack(self.history), "losses": torch.stack(self.losses)}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu"
    ) -> Self:
        """The inverse of `tensors`, with what the next step needs on `device`."""
        history, losses = (
            tuple(tensors[name].unbind()) if name in tensors else ()
            for name in ("history", "losses")
        )
        return cls(
            step=int(tensors["step"]),
            generators=tensors["generators"],
            history=history,
            losses=losses,
            **{name: tensors[name].to(device) for name in CURRENT if name in tensors},
        )


def start(model: Model, size: VideoSize, names: Sequence[str], seeds: Sequence[int]) -> State:
    """Before the first step of clips of that size: each has noise from a generator of its own."""
    generators = [clip_generator(name, seed) for name, seed in zip(names, seeds, strict=True)]
    shape = model.spec.compression.latent_shape(size)
    return State.begin(initial_noise(shape, generators, model.device), generators)


def carry(state: State, displacement: Tensor, share: float) -> State:
    """The first state with a share of its noise moved along fields (b, F, 2, Hl, Wl)."""
    noise = all_carried(state.noise, displacement, share)
    return replace(state, noise=noise, latents=noise)


def clip_generator(name: str, seed: int) -> torch.Generator:
    """A CPU generator that depends on nothing but the clip's name and the seed."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def initial_noise(
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
    device: torch.device | str | None = None,
) -> Tensor:
    """Standard normal float32 (B, *shape), one generator a clip.

    It is drawn on the CPU, so it is the same on every device.
    """
    noise = [torch.randn(*shape, generator=generator) for generator in generators]
    return torch.stack(noise).to(device)


def states_of(generators: Sequence[torch.Generator]) -> Tensor:
    return torch.stack([generator.get_state() for generator in generators])


def generators_of(states: Tensor) -> list[torch.Generator]:
    generators = [torch.Generator("cpu") for _ in states]
    for generator, state in zip(generators, states, strict=True):
        # torch 2.13 crashes on a view that does not start its storage
        generator.set_state(state.clone())
    return generators
