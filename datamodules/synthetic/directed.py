"""Clips of the synthetic world whose motion is chosen: what the camera does, and what things do.

Lengths are in heights of the frame, x right, y down, and angles in degrees, clockwise.
"""

# T frames; paths are (x, y)
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.synthetic.layers import Layer, SyntheticClip
from datamodules.synthetic.world import (
    PALETTES,
    Draw,
    background_prompt,
    direction,
    rotation,
    sprite_prompt,
)
from ditflow.core.sizes import VideoSize


@dataclass(frozen=True)
class Course:
    """A way of this length and direction at its start, whose direction turns by `bend` until its
    end. With `back` it leads to its end and back to its start.
    """

    way: tuple[float, float] = (0.0, 0.0)
    bend: float = 0.0
    back: bool = False

    def share(self, frames: int) -> Tensor:
        """How much of the way is done (T,)."""
        time = torch.linspace(0, 1, frames)
        return (1 - torch.cos(2 * math.pi * time)) / 2 if self.back else time

    def path(self, frames: int) -> Tensor:
        """Places (T, 2) from (0, 0) on."""
        done, bend = self.share(frames)[:, None], math.radians(self.bend)
        if not bend:
            return done * torch.tensor(self.way)
        x, y = self.way
        before = math.atan2(y, x) - math.pi / 2
        turned = direction(before + bend * done[:, 0]) - direction(torch.tensor(before))
        return math.hypot(x, y) / bend * turned


@dataclass(frozen=True)
class Thing:
    """A textured sprite: its course, and the place of its centre at the start, from the frame's."""

    course: Course
    start: tuple[float, float] = (0.0, 0.0)
    radius: float = 0.2
    shape: str = "disc"
    palette: str = "yellow"


@dataclass(frozen=True)
class Shot:
    """What is seen: the camera's course, how much what it sees grows (the logarithm) and by how
    much it rolls meanwhile, and things in front of the clouds.
    """

    camera: Course = Course()
    grow: float = 0.0
    roll: float = 0.0
    things: tuple[Thing, ...] = ()

    def clip(
        self, name: str, *, palette: str = "blue", seed: int = 0, size: VideoSize | None = None
    ) -> SyntheticClip:
        """The clip, whose textures are drawn from the seed. `size` None is that of the world."""
        size, draw = size or VideoSize(25, 64, 64), Draw(seed)
        ground = self._ground(size, draw, palette)
        sprites = [_sprite(thing, size, draw) for thing in self.things]
        prompt = background_prompt(palette)
        if self.things:
            prompt = sprite_prompt(palette, self.things[0].palette, self.things[0].shape)
        return SyntheticClip(name, size, prompt, palette, "directed", (ground, *sprites))

    def _ground(self, size: VideoSize, draw: Draw, palette: str) -> Layer:
        done = self.camera.share(size.frames) - 0.5
        path = self.camera.path(size.frames) * size.height
        scale = torch.exp(-self.grow * done)[:, None, None]
        matrix = scale * rotation(math.radians(self.roll) * done)
        offset = path - path.mean(0) - matrix @ _centre(size)
        return Layer(draw.texture(PALETTES[palette]), matrix, offset)


def _sprite(thing: Thing, size: VideoSize, draw: Draw) -> Layer:
    place = (thing.course.path(size.frames) + torch.tensor(thing.start)) * size.height
    return Layer(
        draw.texture(PALETTES[thing.palette]),
        torch.eye(2).expand(size.frames, 2, 2),
        -(_centre(size) + place),
        thing.shape,
        thing.radius * size.height,
    )


def _centre(size: VideoSize) -> Tensor:
    return torch.tensor([(size.width - 1) / 2, (size.height - 1) / 2])
