"""A synthetic world whose motion is known exactly: smooth random colour under moving cameras, and
textured sprites.

Appearance is random and cannot be told from the prompt, which names a palette (and a sprite's
palette and shape) and never a motion. A model that draws this
world coherently must look across frames for where things come from: its attention then causes
motion, which is what makes motion transfer possible.

Every layer of a clip is a texture under one similarity per frame, `texture point = A_t @ pixel +
b_t`, so flow and tracks follow in closed form.
"""

# T frames, C = 3 colours, Y X pixel rows and columns, n points; points and flows are (x, y) in
# pixels, x right, y down
from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.core.sizes import VideoSize
from ditflow.metrics.motion_cosine import STRIDE, motion_pairs

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

CELL = 0.3
"""Distance between the nodes of a texture's noise, as a share of the frame's height: about two and a half tokens of the embedded backbone."""
TINT, NOISE = 0.7, 0.8
NODES, UPSAMPLING = 14, 8


Frames = int | Tensor


@dataclass(frozen=True)
class Layer:
    """A texture and where it is seen: `matrix` (T, 2, 2) and `offset` (T, 2) take a pixel to a
    texture point; `radius` in texture pixels, None covers all.
    """

    texture: Tensor
    matrix: Tensor
    offset: Tensor
    shape: str | None = None
    radius: float = 0.0

    def points(self, frame: Frames, pixels: Tensor) -> Tensor:
        """Texture points (..., n, 2) of pixels (..., n, 2) of a frame, or of several, whose shape
        goes with the dimensions before n.
        """
        return pixels @ self.matrix[frame].mT + self.offset[frame][..., None, :]

    def pixels(self, frame: Frames, points: Tensor) -> Tensor:
        """The inverse of `points`."""
        return (points - self.offset[frame][..., None, :]) @ torch.linalg.inv(self.matrix[frame]).mT

    def coverage(self, points: Tensor) -> Tensor:
        """Opacity in [0, 1] at texture points (..., 2), with an edge about one pixel wide."""
        if self.shape is None:
            return torch.ones(points.shape[:-1])
        distance = {
            "disc": points.norm(dim=-1),
            "square": points.abs().amax(-1) * 1.12,
            "diamond": points.abs().sum(-1) * 0.8,
        }[self.shape]
        return torch.sigmoid((self.radius - distance) / 0.4)

    def colour(self, points: Tensor, cell: float) -> Tensor:
        """Colour (C, ...) in [-1, 1] at texture points (..., 2); the texture's centre is the
        origin.
        """
        extent = (NODES - 1) * cell / 2
        grid = (points / extent).reshape(1, -1, 1, 2)
        sampled = functional.grid_sample(
            self.texture[None], grid, align_corners=True, padding_mode="reflection"
        )
        return sampled.reshape(3, *points.shape[:-1])


@dataclass(frozen=True)
class SyntheticClip:
    """A clip with its exact motion. `layers` go from back to front."""

    name: str
    size: VideoSize
    prompt: str
    palette: str
    motion: str
    layers: tuple[Layer, ...]

    @property
    def frames(self) -> Tensor:
        """The video: uint8 (T, C, Y, X)."""
        pixels, cell = self._pixels(), CELL * self.size.height
        video = torch.zeros(3, self.size.frames, self.size.height, self.size.width)
        for layer in self.layers:
            points = pixels @ layer.matrix.mT[:, None] + layer.offset[:, None, None]  # (T, Y, X, 2)
            opacity = layer.coverage(points)
            video = video * (1 - opacity) + layer.colour(points, cell) * opacity
        return ((video.transpose(0, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def front(self, frame: Frames, pixels: Tensor) -> Tensor:
        """Index of the layer that is seen at pixels (..., n, 2) of a frame: int64 (..., n)."""
        seen = torch.stack(
            [layer.coverage(layer.points(frame, pixels)) > 0.5 for layer in self.layers]
        )
        return seen.shape[0] - 1 - seen.flip(0).to(torch.uint8).argmax(0)

    def advance(self, first: Frames, second: Frames, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Where pixels (..., n, 2) of frame `first` are in frame `second` (..., n, 2), and whether
        they are inside the frame and seen there (..., n) bool.

        For many frame pairs at once, `first` and `second` are int64 of shapes that broadcast
        against each other and the dimensions before n.
        """
        moved = torch.stack(
            [layer.pixels(second, layer.points(first, pixels)) for layer in self.layers]
        )
        owner = self.front(first, pixels).expand(moved.shape[1:-1])
        moved = moved.gather(0, owner[None, ..., None].expand(1, *moved.shape[1:]))[0]
        limit = torch.tensor([self.size.width - 1.0, self.size.height - 1.0])
        inside = ((moved >= 0) & (moved <= limit)).all(-1)
        return moved, inside & (self.front(second, moved) == owner)

    def flow(self, first: int, second: int) -> Tensor:
        """Exact displacement of every pixel from frame `first` to frame `second`: float32 (2, Y,
        X), (dx, dy).
        """
        pixels = self._pixels()[0]
        return (self.advance(first, second, pixels)[0] - pixels).permute(2, 0, 1)

    def flows(self, stride: int = STRIDE) -> Tensor:
        """Exact displacements of all pixels for `motion_pairs`: (P, 2, Y, X)."""
        return torch.stack([self.flow(i, j) for i, j in motion_pairs(self.size.frames, stride)])

    def visible(self, first: int, second: int) -> Tensor:
        """Which pixels of frame `first` are still seen in frame `second`: bool (Y, X)."""
        return self.advance(first, second, self._pixels()[0])[1]

    def tracks(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Tracks of points (n, 2) of frame 0 through the clip: positions (T, n, 2) and visibility
        (T, n).
        """
        steps = [self.advance(0, frame, points) for frame in range(self.size.frames)]
        return torch.stack([moved for moved, _ in steps]), torch.stack([seen for _, seen in steps])

    def _pixels(self) -> Tensor:
        rows, columns = (
            torch.arange(self.size.height, dtype=torch.float32),
            torch.arange(self.size.width, dtype=torch.float32),
        )
        return torch.stack(
            [columns.expand(self.size.height, -1), rows[:, None].expand(-1, self.size.width)], -1
        )[None]


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
        draw = _Draw(seed)
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

    def _camera(self, draw: _Draw, motion: str, tint: tuple[float, float, float]) -> Layer:
        time, centre, height = self._time(), self._centre(), self.size.height
        heading, turn = draw.uniform(0, 2 * math.pi), draw.sign()
        path, angle, scale = (
            torch.zeros(len(time), 2),
            torch.zeros_like(time),
            torch.ones_like(time),
        )
        if motion == "pan":
            path = (
                _direction(torch.tensor(heading)) * time[:, None] * draw.uniform(0.2, 0.6) * height
            )
        elif motion == "arc":
            bend, length = turn * draw.uniform(0.5, 1.2) * math.pi, draw.uniform(0.35, 0.7) * height
            path = (
                length
                * (
                    _direction(heading + bend * time - math.pi / 2)
                    - _direction(torch.tensor(heading - math.pi / 2))
                )
                / bend
            )
        elif motion == "zoom":
            scale = torch.exp(turn * draw.uniform(0.6, 1.0) * (time - 0.5))
        elif motion == "rotation":
            angle = turn * draw.uniform(0.25, 0.5) * math.pi * (time - 0.5)
        matrix = scale[:, None, None] * _rotation(angle)
        offset = path - path.mean(0) - (matrix @ centre)
        return Layer(draw.texture(tint), matrix, offset)

    def _sprite(
        self, draw: _Draw, motion: str, tint: tuple[float, float, float], shape: str
    ) -> Layer:
        time, centre, height = self._time(), self._centre(), self.size.height
        heading, turn, reach = (
            draw.uniform(0, 2 * math.pi),
            draw.sign(),
            draw.uniform(0.14, 0.26) * height,
        )
        if motion == "drift":
            path = _direction(torch.tensor(heading)) * (2 * time[:, None] - 1) * reach
        elif motion == "orbit":
            path = _direction(heading + turn * draw.uniform(0.8, 1.6) * math.pi * time) * reach
        else:
            path = (
                _direction(torch.tensor(heading))
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


class _Draw:
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


def _direction(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], -1)


def _rotation(angle: Tensor) -> Tensor:
    return torch.stack(
        [torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)],
        -2,
    )
