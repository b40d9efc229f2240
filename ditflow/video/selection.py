"""Choose frames of a clip: every n-th, or those nearest to equal steps of time."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from statistics import median

TICK = 0.00101  # seconds: Matroska and Flash round times to milliseconds, 16 and 17 at 60 fps


class SelectionError(ValueError):
    """The clip has no such frames. The message lacks its subject, the name of the clip.

    Attributes:
        words: the message without the advice.
        fit: how many frames would fit from the same start, 0 if none.
    """

    def __init__(self, words: str, fit: int = 0, advice: str = "") -> None:
        super().__init__(f"{words} {advice}".rstrip())
        self.words, self.fit = words, fit


def by_stride(count: int, frames: int | None, start: int, stride: int) -> list[int]:
    """Indices start, start + stride, ... of `count` frames; `frames` None takes all.

    Raises SelectionError if there are not enough.
    """
    _check_start(count, start)
    fit = (count - start - 1) // stride + 1
    if frames is not None and frames > fit:
        need, smaller = start + (frames - 1) * stride + 1, (count - start - 1) // (frames - 1)
        other = f", or stride={smaller}" if smaller else ""
        asked = f"frames={frames} from start={start} with stride={stride} need {need}"
        said = f"has {count} frames, but {asked}."
        raise SelectionError(said, fit, f"frames={fit} would fit{other}.")
    return list(range(start, start + (fit if frames is None else frames) * stride, stride))


def by_time(times: Sequence[float], frames: int | None, start: int, fps: float) -> list[int]:
    """Indices of the frames nearest to times[start] + k / fps, for k = 0, 1, ...

    Of two frames that are equally near, the earlier one is taken. The clip ends half an interval
    after its last frame, since later moments are nearer to a frame that it does not have. Raises
    SelectionError if the clip is too short.
    """
    _check_start(len(times), start)
    step = interval(times)
    lasts = times[-1] - times[start] + step / 2
    fit = max(1, math.ceil(lasts * fps - 1e-6))
    if frames is not None and frames > fit:
        asked = f"frames={frames} at fps={fps:g} need {frames / fps:.2f} s"
        faster = math.ceil(100 * (frames - 1) / lasts + 1e-6) / 100 if step else math.inf
        other = f", or fps={faster:g}" if faster * step <= 1 else ""  # else some come twice
        said = f"lasts {lasts + step / 2:.2f} s from start={start}, but {asked}"
        raise SelectionError(f"{said}.", fit, f"frames={fit} would fit{other}.")
    taken = range(fit if frames is None else frames)
    return [nearest(times, times[start] + k / fps) for k in taken]


def nearest(times: Sequence[float], moment: float) -> int:
    """Index of the time nearest to a moment; of two that are equally near, the earlier one."""
    after = bisect_left(times, moment - 1e-9)
    if after == 0:
        return 0
    if after == len(times) or moment - times[after - 1] <= times[after] - moment + 1e-9:
        return after - 1
    return after


def interval(times: Sequence[float]) -> float:
    """Median of the seconds from one frame to the next; 0 for a single frame."""
    return median(b - a for a, b in zip(times, times[1:], strict=False)) if len(times) > 1 else 0.0


def is_variable(times: Sequence[float]) -> bool:
    """Whether some intervals between frames differ from the median by more than rounding."""
    typical = interval(times)
    return any(
        abs(b - a - typical) > max(TICK, typical / 10)
        for a, b in zip(times, times[1:], strict=False)
    )


def _check_start(count: int, start: int) -> None:
    if start >= count:
        last = f"the last is {count - 1}"
        raise SelectionError(f"has {count} frames, so none starts at start={start}: {last}.")
