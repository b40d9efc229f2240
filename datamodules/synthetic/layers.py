"""Clips of moving layers, whose motion is known exactly.

Each layer is a texture under one similarity per frame, `texture point = A_t @ pixel + b_t`, so flow
and tracks follow in closed form.
"""

# T frames, C = 3 colours, Y X pixel rows and columns, n points; points and flows are (x, y) in
# pixels, x right, y down
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.core.sizes import VideoSize
from ditflow.metrics.motion_cosine import STRIDE, motion_pairs

CELL = 0.3
"""Distance between the nodes of a texture's noise, as a share of the frame's height. It is about
two and a half tokens of the embedded backbone."""
NODES = 14

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
