"""A clip as its motion is measured for people to look at: not too long, and not too large.

Nothing heavy is imported before a clip is read.
"""

# T frames, C = 3 channels RGB, Y X pixel rows and columns
from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ditflow.video import Clip

LONGER, FRAMES = 512, 49  # pixels of the longer side and frames, at most, if not asked for
LEAST = 16  # pixels of a side


def clip_of(
    path: str,
    *,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    start: int = 0,
    **chosen: Any,
) -> Clip:
    """The frames of a clip: at most FRAMES of LONGER pixels where not said, with a warning where
    there are more. `chosen` is as `read_video` takes it.
    """
    from ditflow.video import read_video, video_length

    if frames is None and (length := video_length(path, start=start, **chosen)) > FRAMES:
        warnings.warn(f"the first {FRAMES} of {length} frames are taken.", stacklevel=2)
        frames = FRAMES
    size = size or _fitting(path, start)
    return read_video(path, frames=frames, size=size, start=start, **chosen)


@contextmanager
def doubts() -> Iterator[list[str]]:
    """A list that has, after the block, each warning of it once, as a sentence in one line."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always", UserWarning)
        try:
            yield said
        finally:
            sentences = (" ".join(str(warning.message).split()) for warning in raised)
            said.extend(dict.fromkeys(sentences))


def _fitting(path: str, start: int) -> tuple[int, int]:
    """Height and width of the clip, even, and at most LONGER pixels on the longer side."""
    from ditflow.video import read_video

    sides = read_video(path, frames=1, start=start).frames.shape[2:]
    shrink = min(1.0, LONGER / max(sides))
    height, width = (max(LEAST, 2 * round(side * shrink / 2)) for side in sides)
    return height, width
