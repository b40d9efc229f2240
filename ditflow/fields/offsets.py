"""Offsets: how far optimised positions are from a model's own, as a field.

Positions are a field, so the change that an optimisation made to them can be read on another grid,
mirrored or turned as the motion of a clip can. What is optimised for queries and for keys, and at
each step, is a field of its own.
"""

# G guided steps, F H W token times, rows and columns, N = F*H*W video tokens, P the leading (G, 2)

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.core.sizes import Compression, TokenGrid, VideoSize
from ditflow.fields.field import FieldError, cell_places, check_far, in_time, resized
from ditflow.fields.operations.base import check_factor, check_finite
from ditflow.fields.operations.regions import Box, region_mask

Y, X = 1, 2  # axes of an offset


@dataclass(frozen=True, eq=False)
class Offsets:
    """What optimised positions add to the stock ones.

    Attributes:
        values: float32 (*P, F, H, W, 3) of (t, y, x), in shares of the video's duration and of the
            frame's height and width.
        times: when each of the F is, in frames of the video, ascending.
        frames: length of the video.
        aspect: width of a frame divided by its height.
    """

    values: Tensor
    times: tuple[float, ...]
    frames: int
    aspect: float

    @classmethod
    def of(
        cls, positions: Tensor, stock: Tensor, compression: Compression, size: VideoSize
    ) -> Self:
        """Of positions (*P, N, 3) of the tokens of a video, which a model puts at stock (N, 3)."""
        grid = compression.grid(size)
        moved = (positions - stock).unflatten(-2, (grid.frames, grid.height, grid.width))
        times = compression.token_times(size.frames)
        return cls(moved / _sides(stock, grid), times, size.frames, size.width / size.height)

    def on(self, stock: Tensor, compression: Compression, size: VideoSize) -> Tensor:
        """Positions (*P, N, 3) of the tokens of a video of any size, put at stock (N, 3) by a
        model: the offsets are spread over its frame and its length.
        """
        grid, times = compression.grid(size), compression.token_times(size.frames)
        stretch = (self.frames - 1) / max(size.frames - 1, 1)
        spread = self._at([time * stretch for time in times])
        cells = spread.movedim(-1, -3).flatten(0, -4)  # (P*F, 3, H, W)
        moved = resized(cells, (grid.height, grid.width)).movedim(-3, -1)
        moved = moved.unflatten(0, spread.shape[:-3])
        positions: Tensor = stock + (moved * _sides(stock, grid)).flatten(-4, -2)
        return positions

    def scaled(self, amount: float) -> Self:
        """So much of them: 0 are the stock positions."""
        check_finite("scaled by a number", amount)
        values = self.values * amount
        check_far(values)
        return replace(self, values=values)

    def mirrored(self, across: str = "left-right") -> Self:
        """In a mirror that changes left and right, or top and bottom."""
        if across not in ("left-right", "top-bottom"):
            raise FieldError(f"offsets are mirrored left-right or top-bottom, not {across!r}.")
        axis = X if across == "left-right" else Y
        sign = self.values.new_ones(3)
        sign[axis] = -1
        return replace(self, values=self.values.flip(axis - 4) * sign)

    def reversed_in_time(self) -> Self:
        """Played backwards. Positions count by their differences alone, so none is the anchor."""
        sign = self.values.new_tensor([-1.0, 1.0, 1.0])
        values = self._at([self.frames - 1 - time for time in self.times])
        return replace(self, values=values * sign)

    def paced(self, factor: float) -> Self:
        """So many times as slow, in a video of the same length; below 1 it holds at the end."""
        check_factor(factor)
        longer = self.values.new_tensor([factor, 1.0, 1.0])
        return replace(self, values=self._at([time / factor for time in self.times]) * longer)

    def rotated(self, degrees: float) -> Self:
        """As if the picture had been turned clockwise about the frame's centre."""
        check_finite("rotated by a number of degrees", degrees)
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        sides = self.values.new_tensor([1.0, self.aspect])  # y, x
        turn = self.values.new_tensor([[cos, sin], [-sin, cos]]) * sides / sides[:, None]
        *_, rows, columns, _ = self.values.shape
        places = cell_places(rows, columns).flip(0).movedim(0, -1).to(self.values) - 0.5
        back = places @ turn.inverse().mT  # (H, W, 2): where a cell was before the turn
        flat = self.values.flatten(0, -4).movedim(-1, 1)  # (P*F, 3, H, W)
        look = (2 * back.flip(-1)).expand(len(flat), -1, -1, -1)
        found = functional.grid_sample(flat, look, padding_mode="border", align_corners=False)
        found = found.movedim(1, -1).view_as(self.values)
        return replace(self, values=torch.cat([found[..., :1], found[..., 1:] @ turn.mT], dim=-1))

    def restricted(self, region: Tensor | Box, *, moving: bool = False) -> Self:
        """Those in a region of the frame only, at all times. Raises FieldError for one that moves:
        offsets do not say where content goes.
        """
        if moving:
            raise FieldError(
                "a region cannot move along with optimised positions, which do not say where "
                "content goes: leave 'moving' out."
            )
        mask = region_mask(region, (self.values.shape[-3], self.values.shape[-2]))
        return replace(self, values=self.values * mask[..., None].to(self.values))

    def _at(self, times: list[float]) -> Tensor:
        """Values (*P, F, H, W, 3) at other times; before the first and after the last they hold."""
        at = [min(max(time, self.times[0]), self.times[-1]) for time in times]
        return in_time(self.values.movedim(-4, 0), self.times, at).movedim(0, -4)


def _sides(stock: Tensor, grid: TokenGrid) -> Tensor:
    """What the duration and the sides of the frame are in units of stock positions (N, 3)."""
    places = stock.view(grid.frames, grid.height, grid.width, 3)
    spans = places[-1, -1, -1] - places[0, 0, 0]  # between the middles of the outer tokens
    rows, columns = (n / max(n - 1, 1) for n in (grid.height, grid.width))
    sides = spans * spans.new_tensor([1.0, rows, columns])
    return torch.where(sides == 0, torch.ones_like(sides), sides)
