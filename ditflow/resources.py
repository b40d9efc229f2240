"""What ships with ditflow: configurations and embedded backbones.

A wheel holds them inside the package, a checkout holds them beside it; `shipped` looks where this
very copy of ditflow keeps them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PACKAGE = Path(__file__).resolve().parent

Kind = Literal["configs", "checkpoints"]


def shipped(kind: Kind, name: str) -> Path | None:
    """Path of a shipped file or folder, such as `shipped("configs", "tiny-rope.yaml")`, or None if
    nothing of that name ships.

    Names are relative and use "/"; those that would leave the folder are not shipped.
    """
    folder = home(kind)
    path = (folder / name).resolve()
    return (
        path if name and path.is_relative_to(folder) and path != folder and path.exists() else None
    )


def home(kind: Kind) -> Path:
    """The folder that holds everything shipped of a kind."""
    inside = PACKAGE / kind
    return (inside if inside.is_dir() else PACKAGE.parent / kind).resolve()
