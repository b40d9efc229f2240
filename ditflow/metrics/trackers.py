"""Trackers follow the points of a grid through a video.

- `lucas-kanade`, the default: pyramidal Lucas-Kanade (OpenCV), frame by frame. Each point is also
  followed back as a check. It works offline and has a permissive licence.
- `cotracker3`: the tracker of the published motion fidelity. It must be installed by hand, because
  its licence (CC BY-NC 4.0) forbids commercial use.
- `exact`: the true tracks of a reference from the synthetic world. Generated videos are followed by
  Lucas-Kanade from the same points.
"""

# T frames, C colours, Y X pixel rows and columns, n points
# points are (x, y) in pixels, x right, y down
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ditflow.metrics.base import Memory, MetricError, Sample, Tracker, Tracks, check_frames


def grid_points(size: tuple[int, int], side: int) -> Tensor:
    """Points (side * side, 2): the centres of the cells of a grid on a frame of `size` (Y, X)."""
    rows, columns = ((torch.arange(side) + 0.5) * length / side - 0.5 for length in size)
    return torch.cartesian_prod(rows, columns).flip(-1)


class FrameTracker(ABC):
    """A tracker that needs nothing but the frames of a video."""

    name: str

    def __init__(self) -> None:
        self.memory = Memory()

    def __call__(self, frames: Tensor, points: Tensor | None = None) -> Tracks:
        """Tracks of points through a video, uint8 (T, C, Y, X).

        The points (n, 2) lie on the first frame; None takes the tracker's own grid. Raises
        MetricError for what is no video.
        """
        check_frames(frames)
        return self.memory.recall(lambda: self.track(frames, points), frames, points)

    def pair(self, sample: Sample) -> tuple[Tracks, Tracks]:
        return self(sample.reference), self(sample.generated)

    @abstractmethod
    def track(self, frames: Tensor, points: Tensor | None) -> Tracks:
        """Tracks of points; `__call__` checks the frames before and keeps the result."""


class LucasKanade(FrameTracker):
    """Pyramidal Lucas-Kanade in colour.

    Frames are enlarged by a whole factor until their short side has at least `side` pixels. A point
    is lost for good when it leaves the frame, when it is not found, or when following it back ends
    more than `tolerance` pixels away. A point that is not found repeats its last step.
    """

    name = "lucas-kanade"

    def __init__(
        self,
        grid: int = 16,
        side: int = 128,
        window: int = 15,
        levels: int = 3,
        tolerance: float = 0.5,
    ) -> None:
        super().__init__()
        self.grid, self.side, self.tolerance = grid, side, tolerance
        self.window, self.levels = window, levels

    def track(self, frames: Tensor, points: Tensor | None) -> Tracks:
        size = (frames.shape[2], frames.shape[3])
        scale = max(1, math.ceil(self.side / min(size)))
        images = [_image(frame, scale) for frame in frames]
        here = (grid_points(size, self.grid) if points is None else points).float()
        step, seen = torch.zeros_like(here), torch.ones(len(here), dtype=torch.bool)
        path, sight = [here], [seen]
        for first, second in zip(images, images[1:], strict=False):
            there, found = self._follow(first, second, here, scale)
            here, step = (
                torch.where(found[:, None], there, here + step),
                torch.where(found[:, None], there - here, step),
            )
            seen = seen & found & ((here >= 0) & (here <= torch.tensor(size[::-1]) - 1)).all(-1)
            path.append(here)
            sight.append(seen)
        return Tracks(torch.stack(path), torch.stack(sight), size)

    def _follow(self, first: Any, second: Any, points: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        """Positions (n, 2) in the second image of points of the first, and which are found (n,)."""
        import cv2

        how = {"winSize": (self.window, self.window), "maxLevel": self.levels}
        start = ((points + 0.5) * scale - 0.5).numpy()[:, None]
        there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, start, None, **how)
        back, found_back, _ = cv2.calcOpticalFlowPyrLK(second, first, there, None, **how)
        error = torch.from_numpy(back - start)[:, 0].norm(dim=-1) / scale
        kept = torch.from_numpy(found * found_back)[:, 0].bool() & (error < self.tolerance)
        return (torch.from_numpy(there)[:, 0] + 0.5) / scale - 0.5, kept


class CoTracker3(FrameTracker):
    """CoTracker3 (Karaev et al., 2024), the offline model, in the published setting.

    That is a grid of 55 x 55 points, and colours as floats from 0 to 255. Code and weights are
    those that `torch.hub` has on this machine; nothing is downloaded. Raises MetricError if they
    are missing.
    """

    name = "cotracker3"
    INSTALL = (
        'python -c "import torch; '
        "torch.hub.load('facebookresearch/co-tracker', 'cotracker3_offline')\""
    )

    def __init__(self, grid: int = 55) -> None:
        super().__init__()
        hub = Path(torch.hub.get_dir())
        self.grid, self.code = grid, hub / "facebookresearch_co-tracker_main"
        self.weights = hub / "checkpoints" / "scaled_offline.pth"
        self.model: Any = None
        needed = (self.code / "hubconf.py", self.weights)
        if missing := [path for path in needed if not path.is_file()]:
            raise MetricError(
                f"the tracker cotracker3 is not installed ({missing[0]} is missing). Its licence "
                "(CC BY-NC 4.0) forbids commercial use; if that suits you, "
                f"install it once with `{self.INSTALL}`. Or use lucas-kanade."
            )

    @torch.no_grad()
    def track(self, frames: Tensor, points: Tensor | None) -> Tracks:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.model is None:
            self.model = self._load().to(device).eval()
        queries = (
            {"grid_size": self.grid}
            if points is None
            else {"queries": torch.cat([torch.zeros(len(points), 1), points], 1)[None].to(device)}
        )
        positions, seen = self.model(frames[None].float().to(device), **queries)
        return Tracks(
            positions[0].float().cpu(), seen[0].bool().cpu(), (frames.shape[2], frames.shape[3])
        )

    def _load(self) -> Any:
        predictor = torch.hub.load(
            str(self.code), "cotracker3_offline", source="local", pretrained=False
        )
        # weights_only reads tensors alone: no code in the file is run
        weights = torch.load(self.weights, map_location="cpu", weights_only=True)
        predictor.model.load_state_dict(weights)
        return predictor


class Exact:
    """Exact tracks of the reference, and Lucas-Kanade from the same points in the generated video.

    `pair` raises MetricError if the sample has no exact tracks.
    """

    name = "exact reference, lucas-kanade"

    def __init__(self) -> None:
        self.follower = LucasKanade()

    def pair(self, sample: Sample) -> tuple[Tracks, Tracks]:
        if sample.tracks is None:
            raise MetricError(
                "its exact tracks are not known, as it is no clip of the synthetic world; "
                "use the tracker lucas-kanade or cotracker3."
            )
        return sample.tracks, self.follower(sample.generated, sample.tracks.positions[0])


TRACKERS: dict[str, type[LucasKanade] | type[CoTracker3] | type[Exact]] = {
    "lucas-kanade": LucasKanade,
    "cotracker3": CoTracker3,
    "exact": Exact,
}


def load_tracker(name: str) -> Tracker:
    """The tracker of a name in TRACKERS. Raises MetricError if unknown or not installed."""
    if name not in TRACKERS:
        raise MetricError(f"unknown tracker {name!r}; there are {', '.join(TRACKERS)}.")
    return TRACKERS[name]()


def _image(frame: Tensor, scale: int) -> Any:
    """A frame, uint8 (C, Y, X), enlarged and in OpenCV's layout (Y, X, C)."""
    import cv2

    image = frame.permute(1, 2, 0).cpu().contiguous().numpy()
    if scale == 1:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
