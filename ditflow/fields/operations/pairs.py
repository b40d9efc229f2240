"""One motion of two: added, composed, or one after the other."""

# F times, H W rows and columns of cells; displacements are (dx, dy) in shares of the frame

from __future__ import annotations

from dataclasses import replace

import torch

from ditflow.fields.field import FieldError, MotionField, looked_up
from ditflow.fields.operations.base import continued, inside, together, trust_at
from ditflow.fields.operations.time import anchored


def added(first: MotionField, second: MotionField) -> MotionField:
    """A motion whose displacements are the sum of both, cell by cell.

    Both are taken to the times of both, and the lower confidence counts.
    """
    first, second = together(first, second)
    trust = torch.minimum(first.confidence, second.confidence)
    return first.replaced(first.displacement + second.displacement, trust)


def composed(first: MotionField, second: MotionField) -> MotionField:
    """A motion that moves all content as the first does, and what comes of it as the second does.

    Content that is here now came by the second from a place to which the first had brought it. Both
    are taken to the times of both, and the lower confidence counts.
    """
    first, second = together(first, second)
    by = second.displacement
    before = continued(looked_up(first.displacement, by), inside(by))
    trust = torch.minimum(second.confidence, trust_at(first.confidence, by))
    return first.replaced(by + before, trust)


def chained(first: MotionField, second: MotionField, at: float = 0.5) -> MotionField:
    """The first motion and then the second, in a video as long as that of the first.

    Each is played whole: the first until the share `at` of the video, the second in what is left.
    The second goes on from where the first has brought all content, so nothing jumps between them.
    Their confidences multiply: content must have been followed through both. Raises FieldError for
    a share that is not between 0 and 1, and for a motion of a single frame.
    """
    if not 0 < at < 1:
        raise FieldError(f"one motion ends and the next begins at a share from 0 to 1, not {at:g}.")
    if min(first.frames, second.frames) < 2:
        raise FieldError("a motion of a single frame has no time that another can come after.")
    second = anchored(second, 0)
    second = second.resampled(second.times, first.cells, second.frames)
    seam, last = at * (first.frames - 1), first.frames - 1.0
    before = [time * at for time in first.times]
    stretch = (last - seam) / (second.frames - 1)
    after = [min(seam + time * stretch, last) for time in second.times]
    later = [index for index, time in enumerate(after) if time > before[-1]]
    by, end = second.displacement[later], first.displacement[-1:].expand(len(later), -1, -1, -1)
    ended = first.confidence[-1:].expand(len(later), -1, -1)
    moved = by + continued(looked_up(end, by), inside(by))
    trust = second.confidence[later] * trust_at(ended, by)
    return replace(
        first,
        displacement=torch.cat([first.displacement, moved]),
        confidence=torch.cat([first.confidence, trust]),
        times=(*before, *(after[index] for index in later)),
    )
