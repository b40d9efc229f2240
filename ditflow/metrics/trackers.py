"""Trackers: points on a grid, followed through a video.

- `lucas-kanade`, the default: pyramidal Lucas-Kanade (OpenCV), frame by frame, checked by following
each point back. Works offline, permissively licensed.
- `cotracker3`: what the published motion fidelity was measured with; only if it is installed, as
its licence (CC BY-NC 4.0) does not allow commercial use.
- `exact`: the reference's own tracks, where a synthetic world knows them; generated videos are
followed by Lucas-Kanade from the same points.
"""

# T frames, C colours, Y X pixel rows and columns, n points; points are (x, y) in pixels, x right, y
# down
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ditflow.metrics.base import Memory, MetricError, Sample, Tracker, Tracks, check_frames


def grid_points(size: tuple[int, int], side: int) -> Tensor:
    """Points (side * side, 2) at the centres of a grid's cells over a frame of `size` (Y, X)."""
    rows, columns = ((torch.arange(side) + 0.5) * length / side - 0.5 for length in size)
    return torch.cartesian_prod(rows, columns).flip(-1)


class FrameTracker(ABC):
    """A tracker that looks at frames alone."""

    name: str

    def __init__(self) -> None:
        self.memory = Memory()

    def __call__(self, frames: Tensor, points: Tensor | None = None) -> Tracks:
        """Tracks through a video uint8 (T, C, Y, X) of points (n, 2) of its first frame, or of the
        tracker's own grid.
        """
        check_frames(frames)
        return self.memory.recall(lambda: self.track(frames, points), frames, points)

    def pair(self, sample: Sample) -> tuple[Tracks, Tracks]:
        return self(sample.reference), self(sample.generated)

    @abstractmethod
    def track(self, frames: Tensor, points: Tensor | None) -> Tracks:
        """What `__call__` remembers."""


class LucasKanade(FrameTracker):
    """Pyramidal Lucas-Kanade in colour, on frames enlarged so that their short side has `side`
    pixels.

    A point is lost for good when it leaves the frame, is not found, or does not come back to within
    `tolerance` pixels when it is followed backwards; where it is not found, it is taken to go on as
    it last went.
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
        self.grid, self.side, self.window, self.levels, self.tolerance = (
            grid,
            side,
            window,
            levels,
            tolerance,
        )

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
        """Where points (n, 2) of the first image are in the second, and whether they are found
        (n,).
        """
        import cv2

        how = {"winSize": (self.window, self.window), "maxLevel": self.levels}
        start = ((points + 0.5) * scale - 0.5).numpy()[:, None]
        there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, start, None, **how)
        back, found_back, _ = cv2.calcOpticalFlowPyrLK(second, first, there, None, **how)
        error = torch.from_numpy(back - start)[:, 0].norm(dim=-1) / scale
        kept = torch.from_numpy(found * found_back)[:, 0].bool() & (error < self.tolerance)
        return (torch.from_numpy(there)[:, 0] + 0.5) / scale - 0.5, kept


class CoTracker3(FrameTracker):
    """CoTracker3 (Karaev et al., 2024), offline model, in the published setting: a grid of 55 x 55
    points, colours as floats from 0 to 255.

    It takes the code and the weights that `torch.hub` has on this machine and downloads nothing.
    Raises MetricError if they are not there.
    """

    name = "cotracker3"
    INSTALL = """python -c "import torch; torch.hub.load('facebookresearch/co-tracker', 'cotracker3_offline')\""""

    def __init__(self, grid: int = 55) -> None:
        super().__init__()
        hub = Path(torch.hub.get_dir())
        self.grid, self.code, self.weights = (
            grid,
            hub / "facebookresearch_co-tracker_main",
            hub / "checkpoints" / "scaled_offline.pth",
        )
        self.model: Any = None
        missing = [
            str(path) for path in (self.code / "hubconf.py", self.weights) if not path.is_file()
        ]
        if missing:
            raise MetricError(
                f"the tracker cotracker3 is not installed ({missing[0]} is missing). Its licence (CC BY-NC 4.0) forbids commercial use; if that suits you, "
                f"install it once with `{self.INSTALL}`. Or use the tracker lucas-kanade."
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
        predictor.model.load_state_dict(
            torch.load(self.weights, map_location="cpu", weights_only=True)
        )  # tensors alone: nothing in the file is run
        return predictor


class Exact:
    """The reference's exact tracks, and Lucas-Kanade from the same points in the generated video.
    Raises MetricError where the former are not known.
    """

    name = "exact reference, lucas-kanade"

    def __init__(self) -> None:
        self.follower = LucasKanade()

    def pair(self, sample: Sample) -> tuple[Tracks, Tracks]:
        if sample.tracks is None:
            raise MetricError(
                "its exact tracks are not known, as it is no clip of the synthetic world; use the tracker lucas-kanade or cotracker3."
            )
        return sample.tracks, self.follower(sample.generated, sample.tracks.positions[0])


TRACKERS: dict[str, type[LucasKanade] | type[CoTracker3] | type[Exact]] = {
    "lucas-kanade": LucasKanade,
    "cotracker3": CoTracker3,
    "exact": Exact,
}


def load_tracker(name: str) -> Tracker:
    """The tracker of a name in TRACKERS. Raises MetricError for an unknown one and for one that is
    not installed.
    """
    if name not in TRACKERS:
        raise MetricError(f"unknown tracker {name!r}; there are {', '.join(TRACKERS)}.")
    return TRACKERS[name]()


def _image(frame: Tensor, scale: int) -> Any:
    """A frame uint8 (C, Y, X) as OpenCV wants it, enlarged."""
    import cv2

    image = frame.permute(1, 2, 0).cpu().contiguous().numpy()
    return (
        image
        if scale == 1
        else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    )
