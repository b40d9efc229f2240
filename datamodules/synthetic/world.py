"""A synthetic world whose motion is known exactly: smooth random colour under moving cameras, and
textured sprites.

Appearance is random. The prompt names a palette, and a sprite's palette and shape, but never a
motion. So a model that draws this world coherently must find in other frames where things come
from. Its attention then determines motion, which makes motion transfer possible.
"""

# T frames, C = 3 colours, Y X pixel rows and columns
from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.synthetic.layers import NODES, Layer, SyntheticClip
from ditflow.core.sizes import VideoSize

PALETTES: dict[str, tuple[float, float, float]] = {
    name: (float(red), float(green), float(blue))
    for name, (red, green, blue) in zip(
        ("black", "blue", "green", "cyan", "red", "magenta", "yellow", "white"),
        product((-1, 1), repeat=3),
        strict=True,
    )
}
SHAPES = ("disc", "square", "diamond")
CAMERA_MOTIONS = ("pan", "arc", "zoom", "rotation")
SPRITE_MOTIONS = ("drift", "orbit", "bounce")
MOTIONS = CAMERA_MOTIONS + SPRITE_MOTIONS

HELD_OUT = 100_000
"""Seeds below this are held out; training clips have seeds from here on."""

TINT, NOISE, UPSAMPLING = 0.7, 0.8, 8


@dataclass(frozen=True)
class World:
    """Makes clips from seeds. Motions are scaled to the frame: what crosses a third of a small
    frame crosses a third of a large one.
    """

    size: VideoSize = VideoSize(25, 64, 64)

    def clip(self, seed: int, motion: str | None = None) -> SyntheticClip:
        """The clip of a seed; `motion`, one of MOTIONS, is drawn from the seed if it is None."""
        if motion is not None and motion not in MOTIONS:
            raise ValueError(f"unknown motion {motion!r}; this world knows {', '.join(MOTIONS)}")
        draw = Draw(seed)
        kind = draw.choice(CAMERA_MOTIONS if draw.uniform(0, 1) < 0.75 else SPRITE_MOTIONS)
        kind = motion or kind
        palette, second = draw.choice(tuple(PALETTES)), draw.choice(tuple(PALETTES))
        shape = draw.choice(SHAPES)
        ground = self._camera(draw, kind if kind in CAMERA_MOTIONS else "still", PALETTES[palette])
        if kind in CAMERA_MOTIONS:
            return SyntheticClip(
                f"{kind}-{seed}", self.size, background_prompt(palette), palette, kind, (ground,)
            )
        sprite = self._sprite(draw, kind, PALETTES[second], shape)
        return SyntheticClip(
            f"{kind}-{seed}",
            self.size,
            sprite_prompt(palette, second, shape),
            palette,
            kind,
            (ground, sprite),
        )

    def prompts(self) -> list[str]:
        """Every prompt of the world."""
        sprites = [sprite_prompt(*parts) for parts in product(PALETTES, PALETTES, SHAPES)]
        return [background_prompt(palette) for palette in PALETTES] + sprites

    def _camera(self, draw: Draw, motion: str, tint: tuple[float, float, float]) -> Layer:
        time, centre, height = self._time(), self._centre(), self.size.height
        heading, turn = draw.uniform(0, 2 * math.pi), draw.sign()
        path, angle, scale = (
            torch.zeros(len(time), 2),
            torch.zeros_like(time),
            torch.ones_like(time),
        )
        if motion == "pan":
            path = (
                direction(torch.tensor(heading)) * time[:, None] * draw.uniform(0.2, 0.6) * height
            )
        elif motion == "arc":
            bend, length = turn * draw.uniform(0.5, 1.2) * math.pi, draw.uniform(0.35, 0.7) * height
            path = (
                length
                * (
                    direction(heading + bend * time - math.pi / 2)
                    - direction(torch.tensor(heading - math.pi / 2))
                )
                / bend
            )
        elif motion == "zoom":
            scale = torch.exp(turn * draw.uniform(0.6, 1.0) * (time - 0.5))
        elif motion == "rotation":
            angle = turn * draw.uniform(0.25, 0.5) * math.pi * (time - 0.5)
        matrix = scale[:, None, None] * rotation(angle)
        offset = path - path.mean(0) - (matrix @ centre)
        return Layer(draw.texture(tint), matrix, offset)

    def _sprite(
        self, draw: Draw, motion: str, tint: tuple[float, float, float], shape: str
    ) -> Layer:
        time, centre, height = self._time(), self._centre(), self.size.height
        heading, turn, reach = (
            draw.uniform(0, 2 * math.pi),
            draw.sign(),
            draw.uniform(0.14, 0.26) * height,
        )
        if motion == "drift":
            path = direction(torch.tensor(heading)) * (2 * time[:, None] - 1) * reach
        elif motion == "orbit":
            path = direction(heading + turn * draw.uniform(0.8, 1.6) * math.pi * time) * reach
        else:
            path = (
                direction(torch.tensor(heading))
                * torch.cos(draw.uniform(1.5, 2.5) * math.pi * time)[:, None]
                * reach
            )
        matrix = torch.eye(2).expand(len(time), 2, 2)
        return Layer(
            draw.texture(tint), matrix, -(centre + path), shape, draw.uniform(0.19, 0.24) * height
        )

    def _time(self) -> Tensor:
        return torch.linspace(0, 1, self.size.frames)

    def _centre(self) -> Tensor:
        return torch.tensor([(self.size.width - 1) / 2, (self.size.height - 1) / 2])


class Draw:
    """Random choices of one clip."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def sign(self) -> int:
        return 1 if self.uniform(0, 1) < 0.5 else -1

    def choice(self, options: tuple[str, ...]) -> str:
        return options[int(torch.randint(len(options), (), generator=self.generator))]

    def texture(self, tint: tuple[float, float, float]) -> Tensor:
        noise = torch.randn(1, 3, NODES, NODES, generator=self.generator)
        fine = functional.interpolate(
            noise, size=(NODES - 1) * UPSAMPLING + 1, mode="bicubic", align_corners=True
        )[0]
        return torch.tanh(TINT * torch.tensor(tint)[:, None, None] + NOISE * fine)


def background_prompt(palette: str) -> str:
    return f"{palette} clouds"


def sprite_prompt(palette: str, sprite: str, shape: str) -> str:
    return f"a {sprite} {shape} over {palette} clouds"


def palette_of(frames: Tensor) -> str:
    """The palette that a video uint8 (T, C, Y, X) looks most like, by its mean colour."""
    mean = frames.float().mean(dim=(0, 2, 3)) / 127.5 - 1
    return max(PALETTES, key=lambda name: float(mean @ torch.tensor(PALETTES[name])))


def obeys(frames: Tensor, prompt: str) -> bool:
    """Whether a video uint8 (T, C, Y, X) has the colours of the clouds that a prompt of the world
    asks for.
    """
    return palette_of(frames) == prompt.split()[-2]


def direction(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], -1)


def rotation(angle: Tensor) -> Tensor:
    return torch.stack(
        [torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)],
        -2,
    )
