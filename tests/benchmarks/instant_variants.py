"""Other ways to place tokens along a field, for the ablation of instant motion."""

# F token times, N video tokens

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.core.positions import Positions
from ditflow.core.schedule import Step, in_window
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import MotionField
from ditflow.fields.noise import on_latents
from ditflow.fields.positions import displaced, on_tokens
from ditflow.models import Model
from ditflow.sampling.control import Control, Controls, Inputs, Prompt
from ditflow.sampling.inject import CarriedNoise, Instant
from ditflow.sampling.placement import balance
from ditflow.sampling.state import State

# stock places (N, 3), displacement (B, F, 2, H, W), amount -> places of queries and keys
Places = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Placed(Control):
    """Queries and keys at places of their own, in the conditional pass."""

    displacement: Tensor
    window: float | tuple[int, int]
    places: Places

    def before(
        self, model: Model, step: Step, prompt: Prompt, state: State, inputs: Inputs
    ) -> tuple[State, Inputs]:
        if not in_window(self.window, step):
            return state, inputs
        stock = model.positions(model.spec.compression.grid_of(inputs.latents))
        query, key = self.places(stock, self.displacement, balance(step.guidance_scale))
        if model.spec.position == "sinusoidal":  # one table for both
            position = model.position_at(query)
        else:
            shape = torch.broadcast_shapes(query.shape, key.shape)
            both = torch.stack([query.expand(shape), key.expand(shape)], dim=1)
            position = model.tables(both)
        return state, replace(inputs, positions=Positions(position))


def _places(stock: Tensor, moved: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    places = displaced(stock, moved, amount)
    return places, places


def _queries(stock: Tensor, moved: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    return displaced(stock, moved, amount), stock[None]


def _keys(stock: Tensor, moved: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    return stock[None], displaced(stock, moved, amount)


def _in_time(stock: Tensor, moved: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    """Tokens also move half of the way towards the first frame in time."""
    places = displaced(stock, moved, amount) * torch.tensor([0.5, 1, 1])
    return places, places


def _variant(places: Places, change: Callable[[Tensor], Tensor] = lambda moved: moved):  # type: ignore[no-untyped-def]
    def control(
        instant: Instant, model: Model, size: VideoSize, fields: list[MotionField]
    ) -> Control:
        compression = model.spec.compression
        noise = CarriedNoise(on_latents(fields, compression, size), instant.noise_share)
        moved = change(on_tokens(fields, compression, size))
        return Controls((noise, Placed(moved, instant.window, places)))

    return control


def _middle(moved: Tensor) -> Tensor:
    """Positions of all tokens shifted so that those of the middle frame are the model's own."""
    return moved - moved[:, moved.shape[1] // 2, None]


def _smooth(moved: Tensor) -> Tensor:
    flat = functional.avg_pool2d(
        moved.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False
    )
    return flat.view_as(moved)


VARIANTS = {
    "queries alone": _variant(_queries),
    "keys alone": _variant(_keys),
    "half the time axis too": _variant(_in_time),
    "anchor in the middle": _variant(_places, _middle),
    "smoothed over 3 tokens": _variant(_places, _smooth),
}
