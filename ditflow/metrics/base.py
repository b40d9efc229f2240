"""What metrics speak of: a generated video beside its reference, the tracks of points through a
video, and one row of a result.

What measures is a tracker, a CLIP or optical flow. Numbers of different instruments are not
comparable, so a row names its own.
"""

# T frames, C colours, Y X pixel rows and columns, n points, E embedding; points are (x, y) in
# pixels, x right, y down
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol, TypeVar

import torch
from torch import Tensor

STILL = 1 / 2000
"""A step shorter than this share of the frame's diagonal stands still: half a pixel at 480 x 720."""


Result = TypeVar("Result")


class MetricError(ValueError):
    """What is compared cannot be measured; the sentence says why and what to give instead."""


@dataclass(frozen=True)
class Tracks:
    """Points followed through a video: `positions` float (T, n, 2), whether they are `seen` bool
    (T, n), and the video's `size` (Y, X).
    """

    positions: Tensor
    seen: Tensor
    size: tuple[int, int]

    @property
    def frames(self) -> int:
        return len(self.positions)

    def steps(self) -> tuple[Tensor, Tensor]:
        """Steps from frame to frame: displacement (T-1, n, 2), exactly 0 where it stands still, and
        whether both of its ends are seen, bool (T-1, n).
        """
        steps = self.positions.double().diff(dim=0)
        still = steps.norm(dim=-1) < STILL * (self.size[0] ** 2 + self.size[1] ** 2) ** 0.5
        return steps.masked_fill(still[..., None], 0.0), self.seen[1:] & self.seen[:-1]


@dataclass(frozen=True)
class Sample:
    """A generated video and its reference, uint8 (T, C, Y, X), with what is known of them.

    `prompt` is what the generated video should show, `clip` the reference's name, `entry` names the
    videos whose diversity is measured together (the clip's if empty). Where the reference's motion
    is known exactly: `tracks`, and `flows` (P, 2, Y, X) in pixels for the pairs of frames of
    `motion_pairs`.
    """

    reference: Tensor
    generated: Tensor
    prompt: str = ""
    clip: str = ""
    entry: str = ""
    tracks: Tracks | None = None
    flows: Tensor | None = None


@dataclass(frozen=True)
class Row:
    """One measured video (for diversity: one entry). `value` is None where `error` says why there
    is none; `instrument` is what measured.
    """

    clip: str
    prompt: str
    entry: str
    instrument: str
    value: float | None
    error: str | None = None
    details: dict[str, float] = field(default_factory=dict)


class Tracker(Protocol):
    """Follows points through videos. A tracker's `name` stands in every row that it made."""

    @property
    def name(self) -> str: ...

    def pair(self, sample: Sample) -> tuple[Tracks, Tracks]:
        """Tracks of the reference and of the generated video: the same number of points, starting
        at the same places.
        """
        ...


class Embedder(Protocol):
    """Images and texts as unit vectors of one space (CLIP)."""

    @property
    def name(self) -> str: ...

    def images(self, frames: Tensor) -> Tensor:
        """Frames uint8 (T, C, Y, X) as (T, E)."""
        ...

    def texts(self, prompts: list[str]) -> Tensor:
        """Prompts as (len(prompts), E)."""
        ...


class Memory:
    """The last results of a function of tensors, found again by what the tensors hold: a reference
    is tracked once for all videos compared with it.
    """

    def __init__(self, kept: int = 16) -> None:
        self.kept = kept
        self.results: OrderedDict[str, object] = OrderedDict()

    def recall(self, make: Callable[[], Result], *tensors: Tensor | None) -> Result:
        """What `make` gives for these tensors."""
        key = _content(tensors)
        if key not in self.results:
            self.results[key] = make()
        self.results.move_to_end(key)
        while len(self.results) > self.kept:
            self.results.popitem(last=False)
        return self.results[key]  # type: ignore[return-value]


def _content(tensors: tuple[Tensor | None, ...]) -> str:
    digest = sha256()
    for tensor in tensors:
        digest.update(repr(tensor if tensor is None else (tensor.shape, tensor.dtype)).encode())
        digest.update(
            b""
            if tensor is None
            else tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def check_frames(frames: Tensor, name: str = "the video") -> None:
    """Raises MetricError unless frames are uint8 (T, 3, Y, X)."""
    if (
        frames.dtype != torch.uint8
        or frames.ndim != 4
        or frames.shape[1] != 3
        or not frames.numel()
    ):
        raise MetricError(
            f"{name} is {str(frames.dtype).removeprefix('torch.')} of shape {tuple(frames.shape)}; "
            "a video is uint8 of shape (frames, 3, height, width), as `read_video` gives it."
        )


def check_extent(reference: tuple[int, ...], generated: tuple[int, ...]) -> None:
    """Raises MetricError unless two videos have the same extent (T, Y, X)."""
    if reference != generated:
        one, other = (
            f"{frames} frames of {height}x{width} pixels"
            for frames, height, width in (reference, generated)
        )
        raise MetricError(
            f"motion is compared step by step, but the reference has {one} and the generated video {other}. Read both with the same `frames` and `size`."
        )


def check_motion(reference: Tracks, generated: Tracks) -> None:
    """Raises MetricError unless motion can be compared step by step: as many frames, of the same
    size, and more than one.
    """
    check_extent((reference.frames, *reference.size), (generated.frames, *generated.size))
    if reference.frames < 2:
        raise MetricError(
            "a video of one frame has no motion to compare; give videos of at least 2 frames."
        )
    for name, tracks in (("reference", reference), ("generated video", generated)):
        if not tracks.steps()[1].any():
            raise MetricError(
                f"no point of the {name} can be followed from one frame to the next ({tracks.positions.shape[1]} were tried): it is flat or changes completely "
                "between frames. Leave this clip out, or measure it with another tracker."
            )
