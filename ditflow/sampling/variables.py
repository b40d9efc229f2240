"""What is optimised to move a clip: its latents, or the positions of its tokens.

A variable is a value: it holds its parameter, float32 with one row a clip, and says which latents
and which position follow from it.
"""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns, N video tokens, E hidden dim,
# D head dim

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from ditflow.models.base import Model, ModelError


@dataclass(frozen=True)
class Variable(ABC):
    """What is optimised. An optimiser updates `parameter` (B, ...), and a bank stores its value at
    each guided step.
    """

    parameter: Tensor
    kind: ClassVar[str]
    needs: ClassVar[str | None]  # positions that the backbone must have
    fixed: ClassVar[str] = ""  # why it cannot be read on another grid, nor changed; "" if it can

    @classmethod
    def start(cls, backbone: Model, latents: Tensor, places: Tensor | None = None) -> Self:
        """At the given latents and places (see `initial`), one row for each clip. Raises ModelError
        where the model has no such positions.
        """
        cls.check(backbone)
        return cls.at(backbone, cls.initial(backbone, latents, places))

    @classmethod
    def check(cls, backbone: Model) -> None:
        """Raise ModelError unless the backbone has the positions that are optimised."""
        has = backbone.spec.position
        if cls.needs not in (None, has):
            fitting = [
                kind for kind, variable in VARIABLES.items() if variable.needs in (None, has)
            ]
            raise ModelError(
                f"variable {cls.kind!r} needs {cls.needs} positions; those of "
                f"{backbone.spec.name!r} are {has}. Use {' or '.join(fitting)}."
            )

    @classmethod
    def at(cls, backbone: Model, parameter: Tensor) -> Self:
        """The variable with a stored parameter."""
        return cls(parameter)

    @classmethod
    @abstractmethod
    def initial(cls, backbone: Model, latents: Tensor, places: Tensor | None = None) -> Tensor:
        """The parameter (B, ...) to start from: with tokens at places (b, N, 3) of (t, y, x), or
        where the model puts them.
        """

    def replaced(self, parameter: Tensor) -> Self:
        """The same variable at another value; differentiable in it."""
        return replace(self, parameter=parameter)

    def towards(self, backbone: Model, latents: Tensor, amount: float) -> Self:
        """So much of the way from the model's own parameter to this one; 1 is this one."""
        if amount == 1:
            return self
        own = self.initial(backbone, latents)
        return self.replaced(own + amount * (self.parameter - own))

    def carried(self, latents: Tensor) -> Self:
        """The variable that the next guided step starts from, given the sampler's `latents`."""
        return self

    def latents(self, latents: Tensor) -> Tensor:
        """The latents to denoise, given the sampler's `latents`."""
        return latents

    @property
    def position(self) -> Tensor | None:
        """The position to denoise with. None means the model's own."""
        return None


@dataclass(frozen=True)
class LatentVariable(Variable):
    """The noisy latents (B, F, C, Hl, Wl). Injected elsewhere, they replace what was sampled so
    far, and bring the reference's content along.
    """

    kind, needs = "latents", None
    fixed = "which hold the content of its clip, pixel by pixel"

    @classmethod
    def initial(cls, backbone: Model, latents: Tensor, places: Tensor | None = None) -> Tensor:
        return latents

    def carried(self, latents: Tensor) -> Self:
        return self.replaced(latents)

    def latents(self, latents: Tensor) -> Tensor:
        return self.parameter


@dataclass(frozen=True)
class RotaryTables(Variable):
    """Free rotary tables (B, 2, 2, N, D) of [query, key][cos, sin], as published: they need not
    stay a rotation.
    """

    kind, needs = "rotary_tables", "rotary"
    fixed = "free tables, which are no places between which others lie"

    @classmethod
    def initial(cls, backbone: Model, latents: Tensor, places: Tensor | None = None) -> Tensor:
        return backbone.position_at(_places(backbone, latents, places))

    @property
    def position(self) -> Tensor:
        return self.parameter


@dataclass(frozen=True)
class RotaryPositions(Variable):
    """Where each token is, for queries and for keys: (B, 2, N, 3) of (t, y, x), in tokens. The
    tables follow by the model's own frequencies.
    """

    kind, needs = "rotary_positions", "rotary"
    tables: Callable[[Tensor], Tensor]  # of the model

    @classmethod
    def at(cls, backbone: Model, parameter: Tensor) -> Self:
        return cls(parameter, backbone.tables)

    @classmethod
    def initial(cls, backbone: Model, latents: Tensor, places: Tensor | None = None) -> Tensor:
        return _places(backbone, latents, places)[:, None].repeat(1, 2, 1, 1)

    @property
    def position(self) -> Tensor:
        return self.tables(self.parameter)


@dataclass(frozen=True)
class SinusoidalTable(Variable):
    """The position (B, N, E) that is added to the tokens, as published for the 2B class."""

    kind, needs = "sinusoidal", "sinusoidal"
    fixed = "a free table, whose numbers are no places between which others lie"

    @classmethod
    def initial(cls, backbone: Model, latents: Tensor, places: Tensor | None = None) -> Tensor:
        return backbone.position_at(_places(backbone, latents, places))

    @property
    def position(self) -> Tensor:
        return self.parameter


def _places(backbone: Model, latents: Tensor, places: Tensor | None) -> Tensor:
    """Places (B, N, 3) of the tokens of latents, a row a clip."""
    if places is None:
        places = backbone.positions(backbone.spec.compression.grid_of(latents))
    return places.expand(len(latents), -1, -1)


VARIABLES: dict[str, type[Variable]] = {
    variable.kind: variable
    for variable in (LatentVariable, RotaryTables, RotaryPositions, SinusoidalTable)
}
