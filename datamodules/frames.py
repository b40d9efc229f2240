"""The frames that a run takes from its clips, and batches of nothing but frames."""

# T frames, C = 3 colours, Y X pixel rows and columns

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from datamodules.faults import Fail, reported
from datamodules.manifest import MotionTask
from datamodules.queue.work_queue import Leg
from ditflow.core.sizes import Compression, VideoSize
from ditflow.fields.sources import look_for_cuts
from ditflow.video import (
    READER,
    Clip,
    TooShortError,
    VideoError,
    read_image,
    read_video,
    video_length,
    video_sha256,
)


class ClipReader:
    """Reads clips at one video size.

    With `auto`, a clip that is shorter than that gives as many frames as it has and the backbone
    takes. Raises ValueError for a size that cannot be.
    """

    def __init__(self, compression: Compression, size: VideoSize, *, auto: bool = False) -> None:
        compression.check_motion(size)
        self.compression, self.size, self.auto = compression, size, auto
        self._frames: dict[str, int] = {}  # of each clip, by what they depend on
        self._seen: dict[
            str, tuple[list[list[Any]], str]
        ] = {}  # of each clip's and picture's files, and the sha256 that they had then

    def sha256(self, task: MotionTask) -> str:
        """Of the clip's bytes, which are read again only where they may have changed. Raises
        VideoError for a clip that is not there.
        """
        return self._hash_of_file(task.video)

    def image_sha256(self, task: MotionTask) -> str:
        """Of the picture that the video begins with, "" where there is none."""
        return self._hash_of_file(task.image) if task.image else ""

    def hash_of(self, task: MotionTask) -> str:
        """Of the clip's bytes and the frames that the task takes from it."""
        return hash_of_json(
            [READER, self.sha256(task), task.start, task.stride, task.fps, str(self.size_of(task))]
        )

    def size_of(self, task: MotionTask) -> VideoSize:
        """The size at which a clip is taken. Raises VideoError for a clip that cannot be read or is
        too short.
        """
        if not self.auto:
            return self.size
        key = hash_of_json([self.sha256(task), task.start, task.stride, task.fps])
        if key not in self._frames:
            self._frames[key] = self._longest(task)
        return replace(self.size, frames=self._frames[key])

    def read(self, task: MotionTask) -> Clip:
        """The frames that are taken from a clip. Raises VideoError for a clip that cannot be read
        or is too short.
        """
        size = self.size_of(task)
        where: Any = {"start": task.start, "stride": task.stride, "fps": task.fps}
        try:
            return read_video(
                task.video, frames=size.frames, size=(size.height, size.width), **where
            )
        except TooShortError as error:
            raise VideoError(f"{error.words} {self._advice(error.fit)}") from error

    def fitted(self, task: MotionTask) -> Tensor:
        """The picture that the video begins with, uint8 (C, Y, X), at the video's size. Raises
        VideoError for what is no picture.
        """
        return read_image(task.image).fitted(self.size.height, self.size.width)

    def _hash_of_file(self, path: str) -> str:
        stamps = _stamps(Path(path))
        if not stamps or self._seen.get(path, ([], ""))[0] != stamps:
            self._seen[path] = stamps, video_sha256(path)
        return self._seen[path][1]

    def _longest(self, task: MotionTask) -> int:
        """The most frames that the clip has and the backbone takes.

        Raises VideoError where it takes none so short.
        """
        frames = video_length(task.video, start=task.start, stride=task.stride, fps=task.fps)
        longest = self.compression.longest(min(frames, self.size.frames))
        if longest is None:
            raise VideoError(f"{task.video} gives {frames} frames. {self._advice(frames)}")
        return longest

    def _advice(self, frames: int) -> str:
        """What to do with a clip that has so many frames, but not as many as asked for."""
        if (fitting := self.compression.longest(frames)) is None:
            least = self.compression.decoded_frames(2)
            return f"This backbone takes no clip of fewer than {least} frames."
        return f"Use --data.frames {fitting}, or auto."


@dataclass(frozen=True)
class FrameBatch:
    """The frames of some clips, uint8 (T, C, Y, X) each, and what the clips were asked for with.

    `settings` is a hash of the clips and of how their motion is taken.
    """

    leg: Leg
    tasks: tuple[MotionTask, ...]
    settings: str
    clips: tuple[Clip, ...]

    @property
    def sha256(self) -> tuple[str, ...]:
        return tuple(clip.sha256 for clip in self.clips)

    @property
    def containers(self) -> tuple[str, ...]:
        return tuple(clip.container for clip in self.clips)

    @property
    def image_sha256(self) -> tuple[str, ...]:
        return ("",) * len(self.clips)


@dataclass(frozen=True)
class FrameBatching:
    """Makes batches of frames. Every clip becomes an entry; no words are read, and no images."""

    clips: ClipReader
    makes_entries, reads_words, reads_images = True, False, False

    def prepare(
        self, tasks: Sequence[MotionTask], fail: Fail, between: Callable[[], None], *, bar: bool
    ) -> None:
        """Nothing is made ahead: a clip is read when its turn comes."""

    def check(self, tasks: Sequence[MotionTask], fail: Fail) -> None:
        """Report the clips that cannot be read, or have a cut, by reading them."""
        for task in tqdm(tasks, desc="Reading", unit="clip", leave=False, disable=not tasks):
            with reported(task.name, fail):
                look_for_cuts(self.clips.read(task).frames, task.name)

    def batch(self, leg: Leg, tasks: Sequence[MotionTask], settings: str) -> FrameBatch:
        return FrameBatch(leg, tuple(tasks), settings, tuple(map(self.clips.read, tasks)))


def hash_of_json(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _stamps(path: Path) -> list[list[Any]]:
    """Tells a file, or a folder of pictures, from one that was written since, by names, sizes and
    times; empty where they cannot be told.
    """
    with suppress(OSError):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [
            [file.name, stat.st_size, stat.st_mtime_ns] for file in files for stat in [file.stat()]
        ]
    return []
