"""A clip before its pictures are decoded: when each frame is shown, and how to decode it."""

# T frames, Y X pixel rows and columns, C = 3 channels RGB
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (Y, X, C)


class VideoError(ValueError):
    """A clip cannot be read as requested, or frames cannot be written. The message says why."""


@dataclass(frozen=True)
class Source:
    """The frames of a clip, in the order in which a player shows them.

    Attributes:
        container: FFmpeg's name of the file format, such as "avi", or "folder".
        times: when each frame is shown, in seconds, rising.
        rate: frames per second that the file states; 0 if it states none.
        decode: gives the pictures of the frames with these indices, one by one. The indices rise
            and do not repeat.
    """

    container: str
    times: Sequence[float]
    rate: float
    decode: Callable[[Sequence[int]], Iterator[Picture]]
