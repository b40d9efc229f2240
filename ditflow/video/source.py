"""A clip before its pictures are decoded: when each frame is shown, and how to get its picture."""

# T frames, Y X pixel rows and columns, C = 3 channels RGB
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (Y, X, C)


class VideoError(ValueError):
    """A clip that cannot be read as asked, or frames that cannot be written, with the fix."""


@dataclass(frozen=True)
class Source:
    """The frames that a player shows, in the order in which it shows them.

    Attributes:
        container: what the frames lie in: a name of FFmpeg's such as "avi", or "folder".
        times: when each frame is shown, in seconds, rising.
        rate: frames a second that the file states; 0 where it states none.
        decode: the pictures of frames, given by rising indices without repeats, one by one.
    """

    container: str
    times: Sequence[float]
    rate: float
    decode: Callable[[Sequence[int]], Iterator[Picture]]
