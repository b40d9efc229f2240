"""A synthetic world whose motion is known exactly. Read `world.py` first."""

from __future__ import annotations

from datamodules.synthetic.layers import SyntheticClip
from datamodules.synthetic.world import (
    CAMERA_MOTIONS,
    HELD_OUT,
    MOTIONS,
    PALETTES,
    SHAPES,
    SPRITE_MOTIONS,
    World,
    background_prompt,
    obeys,
    palette_of,
    sprite_prompt,
)

__all__ = [
    "CAMERA_MOTIONS",
    "HELD_OUT",
    "MOTIONS",
    "PALETTES",
    "SHAPES",
    "SPRITE_MOTIONS",
    "SyntheticClip",
    "World",
    "background_prompt",
    "obeys",
    "palette_of",
    "sprite_prompt",
]
