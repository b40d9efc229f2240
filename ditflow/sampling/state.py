"""Where a batch of clips has come to between two denoising steps: all that is needed to go on, bit
by bit.
"""

# B batch, K inner steps, F latent frames, C channels, Hl Wl latent rows and columns

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class GuidanceState:
    """`step` is the index of the next step, `parameter` the variable's. `history` and `losses` have
    one member for each guided step so far: the parameter (B, ...) that was denoised with, and the
    losses (K, B) before each update. `generators` are the clips' random states, uint8 (B, .).
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
        named = {
            "step": torch.tensor(self.step),
            "latents": self.latents,
            "noise": self.noise,
            "parameter": self.parameter,
            "generators": self.generators,
        }
        if self.previous_x0 is not None:
            named["previous_x0"] = self.previous_x0
        copies = {
            name: tensor.cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in named.items()
        }
        return copies | (
            {"history": torch.stack(self.history), "losses": torch.stack(self.losses)}
            if self.history
            else {}
        )

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu"
    ) -> Self:
        """The inverse of `tensors`, with what the next step needs on `device`."""
        history, losses = (
            tuple(tensors[name].unbind()) if name in tensors else ()
            for name in ("history", "losses")
        )
        current = {
            name: tensors[name].to(device)
            for name in ("latents", "noise", "parameter", "previous_x0")
            if name in tensors
        }
        return cls(
            step=int(tensors["step"]),
            generators=tensors["generators"],
            history=history,
            losses=losses,
            **current,
        )


def states_of(generators: Sequence[torch.Generator]) -> Tensor:
    return torch.stack([generator.get_state() for generator in generators])


def generators_of(states: Tensor) -> list[torch.Generator]:
    generators = [torch.Generator("cpu") for _ in states]
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(
            state.clone()
        )  # torch 2.13 crashes on a view that does not start its storage
    return generators
