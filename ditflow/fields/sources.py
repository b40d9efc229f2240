"""Where a field comes from: optical flow, tracks of points, or the attention of a model.

All give the same kind of field. All refuse a cut and a single frame, and warn of changing
brightness; how much of the picture each follows through it differs. What a source needs, such as a
tracker or a model, is handed to it.
"""

# T frames, C channels, Y X pixel rows and columns, F latent frames, S tokens per frame, P points,
# K cells; displacements are (dx, dy)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ditflow.core.sizes import Compression, VideoSize
from ditflow.fields.detection import Watch, say
from ditflow.fields.field import FieldError, FieldSource, MotionField, cell_places, resized
from ditflow.fields.fill import filled
from ditflow.fields.flow import optical_flow
from ditflow.fields.following import Flow, cells_of, chained, measured_times, steps

VERSION = 2  # of how fields are measured: a change that gives other fields or warnings raises it
MOST = 25  # times of a field: a longer one keeps so many, evenly spread
SIDE = 256  # pixels of the shorter side that flow is measured on; larger frames are reduced


class Source(Protocol):
    """A way to measure the motion of a video. A field keeps its `name`."""

    @property
    def name(self) -> str: ...

    def measured(self, frames: Tensor, watch: Watch) -> MotionField:
        """The motion of a video uint8 (T, C, Y, X), with a `watch` that looks for cuts
        and for changing brightness in it."""
        ...


@dataclass(frozen=True)
class ByFlow:
    """Pixels are followed back to the first frame by optical flow between two frames."""

    name: str
    flow: Flow

    def measured(self, frames: Tensor, watch: Watch) -> MotionField:
        times = measured_times(len(frames))
        path = map(watch.passed, steps(watch.frames, times, self.flow))
        return chained(watch.frames, times, path, FieldSource(self.name, watch.clip))


DIS = ByFlow("dis", optical_flow)


@dataclass(frozen=True)
class ByTracks:
    """Points are followed through the video, and between them motion is interpolated with Gaussian
    weights, about an affine one.

    `track` takes a video and gives positions (T, P, 2) as (x, y) in pixels, (0, 0) the centre of
    the first, and which are visible, bool (T, P). Fewer than 3 visible ones in a frame raise
    FieldError.
    """

    name: str
    track: Callable[[Tensor], tuple[Tensor, Tensor]]

    def measured(self, frames: Tensor, watch: Watch) -> MotionField:
        watch.look()
        positions, visible = self.track(frames)
        count, _, height, width = frames.shape
        if positions.shape != (*visible.shape, 2) or len(positions) != count:
            raise FieldError(
                f"tracks of a video of {count} frames have positions (T, P, 2) and visible (T, P), "
                f"not {tuple(positions.shape)} and {tuple(visible.shape)}."
            )
        times, cells = measured_times(count), cells_of(height, width)
        places = (positions.float() + 0.5) / torch.tensor([width, height])
        both = [
            _between(places[0], places[time], visible[[0, time]].all(0), cells) for time in times
        ]
        displacement, confidence = (torch.stack(parts) for parts in zip(*both, strict=True))
        return MotionField(
            filled(displacement, confidence),
            confidence,
            tuple(map(float, times)),
            count,
            width / height,
            FieldSource(self.name, watch.clip),
        )


@dataclass(frozen=True)
class ByAttention:
    """Tokens are followed to the first latent frame as the attention of a model sees them.

    `look` takes a video and gives attention motion flow (F, F, S, 2) of (dx, dy) in tokens of a
    model with this `compression`. A token is trusted as far as the flow from the first frame brings
    it back.
    """

    name: str
    look: Callable[[Tensor], Tensor]
    compression: Compression

    def measured(self, frames: Tensor, watch: Watch) -> MotionField:
        watch.look()
        size = VideoSize(len(frames), *frames.shape[-2:])
        grid, moved = self.compression.grid(size), self.look(frames)
        expected = (grid.frames, grid.frames, grid.tokens_per_frame, 2)
        if tuple(moved.shape) != expected:
            raise FieldError(
                f"attention motion flow of shape {tuple(moved.shape)} does not fit a grid of "
                f"{grid} tokens: wanted {expected}."
            )
        places = grid.coordinates(moved.device)
        side = torch.tensor([grid.width, grid.height], device=moved.device)
        back, there = moved[:, 0].float(), moved[0].float()  # (F, S, 2)
        found = (places + back).round().clamp(min=torch.zeros_like(side), max=side - 1).long()
        index = found[..., 1] * grid.width + found[..., 0]  # (F, S)
        answer = there.gather(1, index[..., None].expand(-1, -1, 2))
        trust = torch.exp(-((back + answer) ** 2).sum(-1) / 2)
        trust = trust.reshape(grid.frames, grid.height, grid.width).cpu()
        displacement = (back / side).mT.reshape(grid.frames, 2, grid.height, grid.width).cpu()
        return MotionField(
            filled(displacement, trust),
            trust,
            self.compression.token_times(len(frames)),
            len(frames),
            size.width / size.height,
            FieldSource(self.name, watch.clip),
        )


def field_of(frames: Tensor, source: Source = DIS, clip: str = "") -> MotionField:
    """The motion of a video uint8 (T, C, Y, X), measured by a source.

    Warns of a clip that is still, flickers, or is lost in a large part of the picture. Raises
    FieldError for a clip that has a cut or a single frame, and for one of which nothing can be
    followed because it flickers.
    """
    field, doubts = field_and_doubts(frames, source, clip)
    say(doubts, clip)
    return field


def field_and_doubts(
    frames: Tensor, source: Source = DIS, clip: str = ""
) -> tuple[MotionField, list[str]]:
    """As `field_of`, but what it would warn of is given back, as `say` takes it."""
    watch = Watch(reduced(frames), clip)
    field = source.measured(frames, watch)
    doubts = watch.judge(field)
    if len(field.times) <= MOST:
        return field, doubts
    kept = torch.linspace(0, len(field.times) - 1, MOST).round().tolist()
    times = [field.times[int(at)] for at in kept]
    return field.resampled(times, field.cells, field.frames), doubts


def look_for_cuts(frames: Tensor, clip: str = "") -> None:
    """Raise FieldError for a video uint8 (T, C, Y, X) that has a cut or a single frame, as
    `field_of` does, in less time.
    """
    Watch(reduced(frames), clip).look()


def reduced(frames: Tensor) -> Tensor:
    """A video uint8 (T, C, Y, X), its shorter side at most SIDE pixels."""
    height, width = frames.shape[-2:]
    shrink = SIDE / max(min(height, width), 1)
    if shrink >= 1:
        return frames
    cells = round(height * shrink), round(width * shrink)
    small = [resized(frame[None].float(), cells) for frame in frames]
    return torch.cat(small).round().clamp(0, 255).to(torch.uint8)


def _between(
    start: Tensor, places: Tensor, seen: Tensor, cells: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Displacement (2, H, W) and confidence (H, W) from points (P, 2) that were at `start`."""
    if int(seen.sum()) < 3:
        raise FieldError(
            f"{int(seen.sum())} points are visible at the start and later; wanted at least 3. "
            "Track more points, or take a shorter part of the clip."
        )
    start, places = start[seen], places[seen]
    at = cell_places(*cells).flatten(1).mT  # (K, 2)
    terms, wanted = (torch.cat([x, torch.ones(len(x), 1)], 1) for x in (places, at))
    affine = torch.linalg.lstsq(terms, start - places, driver="gelsd").solution  # (3, 2)
    rest = start - places - terms @ affine
    spacing = max(1 / min(cells), float(seen.sum()) ** -0.5)
    weight = torch.exp(-0.5 * (torch.cdist(at, places) / (0.5 * spacing)) ** 2)  # (K, P)
    total = weight.sum(1, keepdim=True)
    moved = wanted @ affine + weight @ rest / total.clamp_min(1e-12)
    confidence = total[:, 0].clamp(max=1)
    return moved.mT.reshape(2, *cells), confidence.reshape(cells)
