"""A still picture of a run: frames of the first clip's reference, and of a video of each method."""

# T pixel frames, C = 3 colours, Y X pixel rows and columns
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from ditflow.files import StorageError
from ditflow.video import VideoError, read_video
from ditflow.visual import contact_sheet, png
from trainers.report.run import Result, Run

FRAMES, HEIGHT = 7, 128  # frames in a row, and their height in pixels


def still_of(run: Run, results: Sequence[Result]) -> bytes | None:
    """A PNG file with a row for each video, from above: the reference, then the methods. None where
    the reference cannot be read.
    """
    clip = run.clips[0]
    first = {one.item.method: one for one in reversed(results) if one.item.clip == clip}
    files = [run.video(first[name]) for name in run.methods if name in first]
    reference = list(_frames([run.reference(clip)]))
    videos = [video for video in _frames(files) if reference and video.shape == reference[0].shape]
    return png(contact_sheet(reference + videos, frames=FRAMES)) if reference else None


def _frames(files: Sequence[Path]) -> Iterator[Tensor]:
    """Frames (T, C, Y, X) of the videos that can be read, all of one height."""
    for file in files:
        with suppress(VideoError, StorageError, OSError):
            frames = read_video(file).frames
            width = round(HEIGHT * frames.shape[3] / frames.shape[2])
            resized = torch.nn.functional.interpolate(frames.float(), (HEIGHT, width), mode="area")
            yield resized.round().to(torch.uint8)
