"""A DAVIS folder in small: clips of a sliding texture as numbered pictures, and prompts of our
own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

PROMPTS = {"easy": "a cat running", "medium": "a dog running", "hard": "a monkey dance"}


def write_davis(
    folder: Path,
    names: Sequence[str] = ("cat-walk", "dog"),
    *,
    pictures: int = 20,
    frame_range: Sequence[int] = (1, 19, 2),
) -> tuple[Path, Path]:
    """The folder DAVIS, and the file of prompts."""
    root, rows = folder / "DAVIS", {}
    for index, name in enumerate(names):
        place = root / "JPEGImages" / "480p" / name
        place.mkdir(parents=True)
        texture = torch.randint(
            0, 256, (48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(index)
        )
        texture = texture[::4, ::4].repeat_interleave(4, 0).repeat_interleave(4, 1)  # survives JPEG
        for frame in range(pictures):
            Image.fromarray(texture.roll(2 * (index + 1) * frame, dims=1).numpy()).save(
                place / f"{frame:05d}.jpg", quality=95
            )
        rows[name] = {**PROMPTS, "frame_range": list(frame_range)}
    return root, write_prompts(folder, rows)


def write_prompts(folder: Path, rows: Any) -> Path:
    file = folder / "prompts.json"
    file.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return file
