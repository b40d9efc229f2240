"""Warnings that point at the line of the user's code which they are about."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import FrameType

HOME = f"{Path(__file__).parent}/"


def warn(sentence: str) -> None:
    """Warn at the line that called ditflow, however deep in it the reason was found."""
    frame: FrameType | None = sys._getframe(1)
    level = outermost = 1
    while frame is not None:
        level += 1
        if frame.f_code.co_filename.startswith(HOME):
            outermost = level
        frame = frame.f_back
    warnings.warn(sentence, stacklevel=outermost + 1)
