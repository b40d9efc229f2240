"""An embedding to compute by hand: images by their mean colour, texts by a colour's name."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}


class Colours:
    """An Embedder of frames, and of prompts that are one of COLOURS."""

    name = "colours"

    def images(self, frames: Tensor) -> Tensor:
        return functional.normalize(frames.float().mean((2, 3)), dim=-1)

    def texts(self, prompts: list[str]) -> Tensor:
        return functional.normalize(
            torch.tensor([COLOURS[prompt] for prompt in prompts], dtype=torch.float32), dim=-1
        )


def video(*colours: str) -> Tensor:
    """One frame of each colour: uint8 (T, 3, 4, 4)."""
    return torch.tensor([COLOURS[colour] for colour in colours], dtype=torch.uint8)[
        :, :, None, None
    ].expand(-1, -1, 4, 4)
