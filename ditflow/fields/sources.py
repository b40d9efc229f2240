"""Where a field comes from: a clip by optical flow, tracks of points, or attention motion flow."""

# T frames, C channels, Y X pixel rows and columns, F latent frames, S tokens per frame, P points,
# K cells; displacements are (dx, dy)

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ditflow.core.sizes import TokenGrid
from ditflow.fields.detection import Watch
from ditflow.fields.field import FieldError, FieldSource, MotionField, cell_places, resized
from ditflow.fields.fill import filled
from ditflow.fields.flow import optical_flow
from ditflow.fields.following import Flow, cells_of, chained, steps
from ditflow.fields.raft import raft_flow

EVERY = 2  # frames from one measured time to the next; every frame is no more exact
MOST = 25  # times of a field: a longer one keeps so many, evenly spread
SIDE = 256  # pixels of the shorter side that flow is measured on; larger frames are reduced

SOURCES: dict[str, Callable[[], Flow]] = {"dis": lambda: optical_flow, "raft": raft_flow}


def field_of(frames: Tensor, source: str = "dis", clip: str = "") -> MotionField:
    """The motion of a video uint8 (T, C, Y, X), measured by a source of SOURCES.

    Warns of a clip that is still, flickers, or is lost in a large part of the picture. Raises
    FieldError for a clip that has a cut or a single frame, and for a source that is not there.
    """
    if source not in SOURCES:
        raise FieldError(f"unknown source {source!r} of a field; there are {', '.join(SOURCES)}.")
    return field_by(frames, SOURCES[source](), source, clip)


def field_by(frames: Tensor, flow: Flow, method: str, clip: str = "") -> MotionField:
    """Like `field_of`, by any optical flow of that name."""
    watch = Watch(reduced(frames), clip)
    times = measured_times(len(frames))
    path = map(watch.passed, steps(watch.frames, times, flow))
    field = chained(watch.frames, times, path, FieldSource(method, clip))
    watch.warn(field)
    if len(times) <= MOST:
        return field
    kept = torch.linspace(0, len(times) - 1, MOST).round().tolist()
    return field.resampled([times[int(index)] for index in kept], field.cells, field.frames)


def measured_times(frames: int) -> list[int]:
    """The frames at which a video is measured: every second, and the last."""
    return [*range(0, frames - 1, EVERY), frames - 1]


def reduced(frames: Tensor) -> Tensor:
    """A video uint8 (T, C, Y, X), its shorter side at most SIDE pixels."""
    height, width = frames.shape[-2:]
    shrink = SIDE / min(height, width)
    if shrink >= 1:
        return frames
    cells = round(height * shrink), round(width * shrink)
    small = [resized(frame[None].float(), cells) for frame in frames]
    return torch.cat(small).round().clamp(0, 255).to(torch.uint8)


def field_of_tracks(
    positions: Tensor, visible: Tensor, size: tuple[int, int], method: str, clip: str = ""
) -> MotionField:
    """The motion of points that are followed through a video of `size` (Y, X).

    `positions` (T, P, 2) are (x, y) in pixels, (0, 0) the centre of the first; `visible` (T, P)
    bool. Between points it is interpolated with Gaussian weights, about an affine motion. Raises
    FieldError where a frame has fewer than 3 visible points.
    """
    if positions.shape != (*visible.shape, 2) or len(positions) < 2:
        raise FieldError(
            f"tracks have positions (T, P, 2) and visible (T, P) of at least 2 frames, not "
            f"{tuple(positions.shape)} and {tuple(visible.shape)}."
        )
    height, width = size
    cells = cells_of(height, width)
    times = measured_times(len(positions))
    places = (positions.float() + 0.5) / torch.tensor([width, height])
    both = [_spread(places[0], places[time], visible[[0, time]].all(0), cells) for time in times]
    displacement, confidence = (torch.stack(parts) for parts in zip(*both, strict=True))
    return MotionField(
        filled(displacement, confidence),
        confidence,
        tuple(map(float, times)),
        len(positions),
        width / height,
        FieldSource(method, clip),
    )


def _spread(
    start: Tensor, places: Tensor, seen: Tensor, cells: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Displacement (2, H, W) and confidence (H, W) from points (P, 2) that were at `start`."""
    if int(seen.sum()) < 3:
        raise FieldError(
            f"{int(seen.sum())} points are visible at the start and later; wanted at least 3. "
            "Track more points."
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


def field_of_attention(
    displacement: Tensor, grid: TokenGrid, times: Sequence[float], frames: int, clip: str = ""
) -> MotionField:
    """The motion that a model sees: attention motion flow (F, F, S, 2) of (dx, dy) in tokens.

    `times` are when its latent frames are, in frames of a video of that many `frames`. A token is
    trusted as far as the flow from the first frame brings it back. Raises FieldError where the flow
    does not fit the grid.
    """
    expected = (grid.frames, grid.frames, grid.tokens_per_frame, 2)
    if tuple(displacement.shape) != expected:
        raise FieldError(
            f"attention motion flow of shape {tuple(displacement.shape)} does not fit a grid of "
            f"{grid} tokens: wanted {expected}."
        )
    places = grid.coordinates(displacement.device)
    side = torch.tensor([grid.width, grid.height], device=displacement.device)
    back, there = displacement[:, 0].float(), displacement[0].float()  # (F, S, 2)
    found = (places + back).round().clamp(min=torch.zeros_like(side), max=side - 1).long()
    index = found[..., 1] * grid.width + found[..., 0]  # (F, S)
    answer = there.gather(1, index[..., None].expand(-1, -1, 2))
    confidence = torch.exp(-((back + answer) ** 2).sum(-1) / 2)
    cells = (grid.frames, grid.height, grid.width)
    moved = (back / side).mT.reshape(grid.frames, 2, *cells[1:]).cpu()
    trust = confidence.reshape(cells).cpu()
    return MotionField(
        filled(moved, trust),
        trust,
        tuple(times),
        frames,
        grid.width / grid.height,
        FieldSource("amf", clip),
    )
