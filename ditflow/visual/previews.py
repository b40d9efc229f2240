"""Videos small enough for a page: the file itself, or a smaller and coarser copy of it."""

# T pixel frames, C = 3 colours, Y X pixel rows and columns
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ditflow.video import encode_video, read_video

RUNGS = ((480, 24), (320, 27), (240, 30), (160, 33), (112, 36))
"""Longer side in pixels and rate factor of the copies, in the order in which they are tried."""


@dataclass(frozen=True)
class Preview:
    """An mp4 file and the height and width of its frames, in pixels."""

    video: bytes
    shape: tuple[int, int]


def preview(path: str | os.PathLike[str], share: int) -> Preview:
    """A video of at most `share` bytes, or the smallest copy if that has more.

    Raises VideoError where the file cannot be decoded: every video in a page plays.
    """
    clip = read_video(path)
    shape = clip.frames.shape[2], clip.frames.shape[3]
    if Path(path).stat().st_size <= share:
        return Preview(Path(path).read_bytes(), shape)
    for longer, crf in RUNGS:
        frames = _shrunk(clip.frames, longer)
        video = encode_video(frames, clip.fps, crf=crf)
        if len(video) <= share:
            break
    return Preview(video, (frames.shape[2], frames.shape[3]))


def _shrunk(frames: Tensor, longer: int) -> Tensor:
    """Frames uint8 (T, C, Y, X) whose longer side is at most `longer` pixels, both sides even."""
    factor = min(1.0, longer / max(frames.shape[2:]))
    height, width = (max(2, round(side * factor / 2) * 2) for side in frames.shape[2:])
    small = torch.nn.functional.interpolate(frames.float(), (height, width), mode="area")
    return small.round().to(torch.uint8)
