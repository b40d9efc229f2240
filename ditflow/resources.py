"""Find the configurations, embedded checkpoints and banks that ship with ditflow.

A wheel holds them inside the package, a checkout beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

PACKAGE = Path(__file__).resolve().parent

Kind = Literal["configs", "checkpoints", "checkpoints/banks"]


def shipped(kind: Kind, name: str) -> Path | None:
    """Path of a shipped file or folder, such as `shipped("configs", "tiny-rope.yaml")`.

    Names are relative and use "/". The result is None if nothing of that name ships, or if the name
    would leave the folder.
    """
    folder = home(kind)
    path = (folder / name).resolve()
    inside = bool(name) and path.is_relative_to(folder) and path != folder
    return path if inside and path.exists() else None


def home(kind: Kind) -> Path:
    """The folder of everything of a kind that ships."""
    inside = PACKAGE / kind
    return (inside if inside.is_dir() else PACKAGE.parent / kind).resolve()
