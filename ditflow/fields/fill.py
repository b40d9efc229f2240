"""Fill in what could not be followed."""

# F times, H W rows and columns; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

from torch import Tensor


def filled(displacement: Tensor, confidence: Tensor) -> Tensor:
    return displacement
