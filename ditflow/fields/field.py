"""MotionField: the motion of a clip, as where the content of each place was at the start.

It belongs to no model and no resolution. Places and displacements are in shares of the frame, so a
field can be read on any grid, at any times.
"""

# F times, H W rows and columns of cells; displacements are (dx, dy), x right, y down

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

FARTHEST = 100.0  # frames: a video that is crossed each tenth of a second takes 10 seconds for it


class FieldError(ValueError):
    """A clip or a file that holds no usable motion field; the sentence says why."""


@dataclass(frozen=True)
class FieldSource:
    """Where a field comes from: the clip's name, and how its motion was measured."""

    method: str
    clip: str = ""


@dataclass(frozen=True, eq=False)
class MotionField:
    """Where the content of each cell was in the anchor frame.

    Attributes:
        displacement: float32 (F, 2, H, W) from a cell to the place of its content in the anchor
            frame, as shares of the frame's width and height.
        confidence: float32 (F, H, W) from 0 (filled in) to 1 (followed all the way).
        times: when each of the F was, in frames of the video, ascending.
        frames: length of the video.
        aspect: width of a frame divided by its height.
        source: where the field comes from.

    Raises FieldError where these do not fit each other, or hold numbers that are not finite, and
    for content that goes more than 100 frames far.
    """

    displacement: Tensor
    confidence: Tensor
    times: tuple[float, ...]
    frames: int
    aspect: float
    source: FieldSource

    def __post_init__(self) -> None:
        count, *cells = self.displacement.shape
        shapes = tuple(self.displacement.shape), tuple(self.confidence.shape)
        if len(cells) != 3 or cells[0] != 2 or shapes[1] != (count, *cells[1:]):
            raise FieldError(
                f"a field has displacement (F, 2, H, W) and confidence (F, H, W), not {shapes[0]} "
                f"and {shapes[1]}."
            )
        if 0 in shapes[0] or count != len(self.times):
            raise FieldError(f"a field of shape {shapes[0]} has {len(self.times)} times.")
        if not self.displacement.isfinite().all() or not self.confidence.isfinite().all():
            raise FieldError("a field holds numbers that are not finite.")
        check_far(self.displacement)
        least, most = float(self.confidence.min()), float(self.confidence.max())
        if not 0 <= least <= most <= 1:
            raise FieldError(
                f"a field has confidence from {least:g} to {most:g}; wanted numbers from 0 to 1."
            )
        if not 0 < self.aspect < math.inf:
            raise FieldError(f"aspect is {self.aspect:g}, but it is width over height, above 0.")
        rising = all(a < b for a, b in zip(self.times, self.times[1:], strict=False))
        if not rising or not 0 <= self.times[0] <= self.times[-1] <= self.frames - 1:
            raise FieldError(
                f"the times of a field rise from 0 to at most {self.frames - 1}, its last frame; "
                f"these are {self.times}."
            )

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns, (H, W)."""
        return self.displacement.shape[-2], self.displacement.shape[-1]

    def replaced(self, displacement: Tensor, confidence: Tensor | None = None) -> Self:
        """The same field with other displacements, and perhaps another confidence."""
        confidence = self.confidence if confidence is None else confidence
        return replace(self, displacement=displacement, confidence=confidence)

    def resampled(self, times: Sequence[float], cells: tuple[int, int], frames: int) -> Self:
        """The same motion at other times, on another grid of cells.

        `times` are in frames of a video of that many `frames`: the whole motion is spread over it.
        Between times and between cells it is interpolated; a coarser grid takes means.
        """
        stretch = (self.frames - 1) / max(frames - 1, 1)
        at = [min(max(time * stretch, self.times[0]), self.times[-1]) for time in times]
        both = torch.cat([self.displacement, self.confidence[:, None]], dim=1)
        both = resized(in_time(both, self.times, at), cells)
        changed = replace(
            self,
            displacement=both[:, :2],
            confidence=both[:, 2].clamp(0, 1),
            times=tuple(times),
            frames=frames,
        )
        return changed


def check_far(moved: Tensor) -> None:
    """FieldError for content that goes farther, in shares of the frame, than any motion does. What
    is on the device "meta", in a plan, goes nowhere.
    """
    if not moved.is_meta and (most := float(moved.abs().max())) > FARTHEST:
        raise FieldError(
            f"a motion goes {most:.3g} times the frame's side, and {FARTHEST:g} is the most: take "
            "less of it."
        )


def resized(values: Tensor, cells: tuple[int, int]) -> Tensor:
    """Values (F, C, H, W) on another grid: means where it is coarser, else interpolated."""
    if tuple(values.shape[-2:]) == cells:
        return values
    return functional.interpolate(
        values, size=cells, mode="bilinear", align_corners=False, antialias=True
    )


def looked_up(values: Tensor, displacement: Tensor, *, border: bool = True) -> Tensor:
    """Values (F, C, H, W) at the place that each cell's displacement (F, 2, H, W) points to.

    Interpolated between cells. Beyond the frame they are those of its border, or 0.
    """
    places = cell_places(values.shape[-2], values.shape[-1], values.device) + displacement
    look = (places * 2 - 1).permute(0, 2, 3, 1).to(values)
    mode = "border" if border else "zeros"
    return functional.grid_sample(values, look, padding_mode=mode, align_corners=False)


def cell_places(rows: int, columns: int, device: torch.device | str | None = None) -> Tensor:
    """Centres (2, H, W) of cells, (x, y) in shares of the frame."""
    x = (torch.arange(columns, device=device) + 0.5) / columns
    y = (torch.arange(rows, device=device) + 0.5) / rows
    return torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)])


def in_time(values: Tensor, times: Sequence[float], at: Sequence[float]) -> Tensor:
    """Values (F, ...) at other times, interpolated between neighbours."""
    have, want = torch.tensor(times, dtype=torch.float64), torch.tensor(at, dtype=torch.float64)
    if len(have) == 1:
        return values.expand(len(want), *values.shape[1:])
    after = torch.searchsorted(have, want).clamp(1, len(have) - 1)
    share = ((want - have[after - 1]) / (have[after] - have[after - 1])).to(values)
    share = share.view(-1, *[1] * (values.ndim - 1))
    after = after.to(values.device)
    return values[after - 1] * (1 - share) + values[after] * share
