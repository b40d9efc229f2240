"""The values that metrics take and give: a sample, tracks of points through a video, a result row.

The instrument of a metric is a tracker, a CLIP or optical flow. Numbers of different instruments
cannot be compared, so every row names its instrument.
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
"""A point whose step is shorter than this share of the frame's diagonal stands still.

That is half a pixel at 480 x 720.
"""
Result = TypeVar("Result")


class MetricError(ValueError):
    """A sample cannot be measured. The message says why, and what to give instead."""


@dataclass(frozen=True)
class Tracks:
    """Points followed through a video.

    Attributes:
        positions: float (T, n, 2), (x, y) in pixels.
        seen: bool (T, n), False where a point is out of sight or lost.
        size: (Y, X) of the video in pixels.
    """

    positions: Tensor
    seen: Tensor
    size: tuple[int, int]

    @property
    def frames(self) -> int:
        return len(self.positions)

    def steps(self) -> tuple[Tensor, Tensor]:
        """Displacements from frame to frame, float64 (T-1, n, 2), and where they count.

        A displacement is exactly 0 where its point stands still. The second tensor, bool (T-1, n),
        says where a point is seen at both ends of its step.
        """
        steps = self.positions.double().diff(dim=0)
        still = steps.norm(dim=-1) < STILL * (self.size[0] ** 2 + self.size[1] ** 2) ** 0.5
        return steps.masked_fill(still[..., None], 0.0), self.seen[1:] & self.seen[:-1]

    def counts(self, name: str) -> dict[str, float]:
        """The number of points, and the shares of their steps that are lost and that stand still.

        `name` begins each key: name_points, name_lost and name_still.
        """
        steps, seen = self.steps()
        still, total = (steps == 0).all(-1) & seen, max(1, seen.numel())
        return {
            f"{name}_points": float(seen.shape[1]),
            f"{name}_lost": float((~seen).sum()) / total,
            f"{name}_still": float(still.sum()) / total,
        }

    def unmoved(self) -> float:
        """The number of steps whose displacement is 0 before any rounding."""
        return float((self.positions.diff(dim=0) == 0).all(-1).sum())


@dataclass(frozen=True)
class Sample:
    """A generated video beside its reference.

    Attributes:
        reference: uint8 (T, C, Y, X).
        generated: uint8 (T, C, Y, X).
        prompt: what the generated video should show.
        clip: name of the reference.
        entry: name that the videos share whose diversity is measured together; the clip's if empty.
        tracks: exact tracks of the reference, if they are known.
        flows: exact displacements (P, 2, Y, X) of the reference in pixels, for the pairs of frames
            of `motion_pairs`, if they are known.
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
    """The result for one video; for diversity, for one entry.

    `value` is None if the video could not be measured, and `error` then says why. `instrument`
    names what measured it. `details` are numbers that help to judge the value.
    """

    clip: str
    prompt: str
    entry: str
    instrument: str
    value: float | None
    error: str | None = None
    details: dict[str, float] = field(default_factory=dict)


class Tracker(Protocol):
    """Follows points through videos. Its `name` is the instrument in every row that it makes."""

    @property
    def name(self) -> str: ...

    def pair(self, sample: Sample) -> tuple[Tracks, Tracks]:
        """Tracks of the reference and of the generated video.

        Both have the same number of points, which start at the same places.
        """
        ...


class Embedder(Protocol):
    """Embeds images and texts as vectors of length 1 in one space, as CLIP does."""

    @property
    def name(self) -> str: ...

    def images(self, frames: Tensor) -> Tensor:
        """Embeddings (T, E) of frames, uint8 (T, C, Y, X)."""
        ...

    def texts(self, prompts: list[str]) -> Tensor:
        """Embeddings (len(prompts), E) of prompts."""
        ...


class Memory:
    """Keeps the last results of a function of tensors, found by the content of the tensors.

    A reference is thus tracked once, however many videos are compared with it.
    """

    def __init__(self, kept: int = 16) -> None:
        self.kept = kept
        self.results: OrderedDict[str, object] = OrderedDict()

    def recall(self, make: Callable[[], Result], *tensors: Tensor | None) -> Result:
        """The kept result for these tensors, or that of `make`, which is then kept."""
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
    """Raise MetricError unless frames are uint8 (T, 3, Y, X)."""
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


def check_videos(sample: Sample) -> None:
    """Raise MetricError unless both videos of a sample are uint8 (T, 3, Y, X)."""
    check_frames(sample.reference, "the reference")
    check_frames(sample.generated, "the generated video")


def check_extent(reference: tuple[int, ...], generated: tuple[int, ...]) -> None:
    """Raise MetricError unless two videos have the same extent (T, Y, X)."""
    if reference != generated:
        one, other = (
            f"{frames} frames of {height}x{width} pixels"
            for frames, height, width in (reference, generated)
        )
        raise MetricError(
            f"motion is compared step by step, but the reference has {one} and the generated "
            f"video {other}. Read both with the same `frames` and `size`."
        )


def check_motion(reference: Tracks, generated: Tracks) -> None:
    """Raise MetricError unless the motion of two videos can be compared step by step.

    They must have the same size and number of frames, at least 2, and a point in each that can be
    followed.
    """
    check_extent((reference.frames, *reference.size), (generated.frames, *generated.size))
    if reference.frames < 2:
        raise MetricError(
            "a video of one frame has no motion to compare; give videos of at least 2 frames."
        )
    for name, tracks in (("reference", reference), ("generated video", generated)):
        if not tracks.steps()[1].any():
            raise MetricError(
                f"no point of the {name} can be followed from one frame to the next "
                f"({tracks.positions.shape[1]} were tried): it is flat or changes completely "
                "between frames. Leave this clip out, or measure it with another tracker."
            )
