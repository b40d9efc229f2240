"""What a representation of motion must offer: what it reads from a transformer, and how two clips differ in it."""

# B batch

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from ditflow.grid import TokenGrid
from ditflow.taps import Recording


class MotionSignal(ABC):
    """A motion representation read at one transformer block, with the loss that compares two of them.

    `capture` and `features` are the blocks whose query, key and value, or whose output, it reads.
    """

    name: ClassVar[str]
    block: int
    capture: tuple[int, ...] = ()
    features: tuple[int, ...] = ()

    @abstractmethod
    def reference(self, recording: Recording, grid: TokenGrid) -> Tensor:
        """The motion of the reference clips, (B, ...), float32 and without gradient."""

    @abstractmethod
    def loss(self, recording: Recording, grid: TokenGrid, reference: Tensor) -> Tensor:
        """How far each clip's present motion is from its reference, (B,), float32 and differentiable."""

    @abstractmethod
    def is_static(self, reference: Tensor) -> Tensor:
        """bool (B,): where the reference holds no motion, so that the loss is 0 whatever is generated."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Its name and arguments, as JSON values; `SIGNALS[name](**arguments)` makes it again."""
