"""A clip that a visitor brings, or an entry of a bank, as a motion to see and to use."""

# T frames, C = 3 colours, Y X pixel rows and columns
from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.bank import BankEntry, FieldEntry, MotionBank, Provenance
from ditflow.bank.kinds import AnyEntry
from ditflow.fields import MotionField, described
from ditflow.fields.operations import restricted
from ditflow.fields.sources import DIS
from ditflow.video import Clip, VideoError, encode_video, read_video, video_length
from ditflow.visual import png
from trainers.motion.instant import field_entry
from trainers.report.motion import arrows_of, picture_of
from trainers.report.reading import clip_of, doubts

MOST_PIXELS = 4096 * 2304  # of a frame
FILM, STILL, CANVAS = 384, 256, 512  # longer sides in pixels
ENTRY_FPS = 8.0  # frames a second where they are not known


@dataclass(frozen=True)
class Limits:
    """What a clip of a visitor may have: bytes of its file, in 10^6, and seconds."""

    megabytes: float = 200.0
    seconds: float = 60.0


@dataclass(frozen=True, eq=False)
class Motion:
    """A motion, and what is known of where it comes from.

    `name` is its name in a bank, or one that it could have there. `frames` uint8 (T, C, Y, X) are
    its clip's, where that is at hand. `doubts` are sentences that the visitor should read.
    """

    name: str
    entry: AnyEntry
    field: MotionField | None
    frames: Tensor | None = None
    fps: float = ENTRY_FPS
    doubts: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        if self.field is None:
            return "This entry keeps no motion to draw. It makes videos all the same."
        return self.entry.metadata.words or described(self.field)

    def film(self) -> bytes | None:
        """An mp4 of arrows on the clip, or on colours where there is no clip."""
        if self.field is None:
            return None
        times = tuple(map(float, range(self.field.frames)))
        arrows = arrows_of(self.field, self.frames, times, FILM)
        return encode_video(arrows, self.fps, crf=20)

    def still(self) -> bytes | None:
        """A PNG of the whole movement."""
        if self.field is None:
            return None
        return png(arrows_of(self.field, None, (self.field.frames - 1.0,), STILL)[0])

    def ground(self) -> bytes | None:
        """A PNG to paint a region on, CANVAS pixels long: the first frame of the clip, or else the
        movement.
        """
        if self.frames is not None:
            return png(_enlarged(self.frames[0]))
        if self.field is None:
            return None
        return png(arrows_of(self.field, None, (self.field.frames - 1.0,), CANVAS)[0])

    def picture(self) -> bytes | None:
        """The PNG of `ditflow motion`."""
        if self.field is None:
            return None
        return picture_of(self.field, self.frames, self.name, self.words, self.fps)

    def within(self, mask: Tensor, *, moving: bool) -> Motion:
        """The motion in a region alone, which is an entry of its own; see `restricted`.

        Raises ValueError for what is no motion field.
        """
        if not isinstance(self.entry, FieldEntry):
            raise ValueError(
                f"{self.name} was optimised, and a region is for motion fields: clear the region, "
                "or take the motion of its clip."
            )
        metadata = self.entry.metadata
        told = metadata.as_dict()
        for name in ("times", "method", "words"):
            del told[name]
        field = restricted(self.entry.field, mask, moving=moving)
        entry = FieldEntry.of(field, words=described(field), **told)
        return Motion(f"{self.name[:120]}-part", entry, entry.field, self.frames, self.fps)


def motion_of_clip(path: Path, limits: Limits) -> Motion:
    """The motion of a clip that somebody has sent. Raises ValueError, in one sentence without its
    folder, for one that is no good or beyond the limits.
    """
    with _without_folder(path), doubts() as said:
        _check(path, limits)
        clip = clip_of(str(path))
        entry = _entry(clip)
    sentences = tuple(sentence.replace(str(path), path.name) for sentence in said)
    return Motion(_name(path), entry, entry.field, clip.frames, clip.fps or ENTRY_FPS, sentences)


def motion_of_entry(bank: MotionBank, name: str) -> Motion:
    """A motion by its name in a bank. Raises BankError as the bank does."""
    entry = bank[name]
    field = entry.field if isinstance(entry, FieldEntry) else bank.motion(name)
    return Motion(name, entry, field, None, entry.metadata.fps or ENTRY_FPS)


def _entry(clip: Clip) -> FieldEntry | BankEntry:
    source = Provenance(
        clip=clip.path.stem,
        clip_sha256=clip.sha256,
        prompt="",
        negative_prompt="",
        seed=0,
        container=clip.container,
        reader=clip.reader,
    )
    return field_entry(clip, DIS, source)


def _check(path: Path, limits: Limits) -> None:
    """Raise VideoError for what is beyond the limits, before more than one frame is decoded."""
    megabytes = path.stat().st_size / 1e6
    if megabytes > limits.megabytes:
        raise VideoError(
            f"{path} has {megabytes:.1f} MB, and at most {limits.megabytes:g} are taken: send a "
            "shorter or a smaller clip."
        )
    first = read_video(path, frames=1)
    height, width = first.frames.shape[2:]
    if height * width > MOST_PIXELS:
        raise VideoError(
            f"{path} has frames of {width} x {height}, and at most {MOST_PIXELS / 1e6:.1f} million "
            "pixels are taken: send a smaller copy."
        )
    seconds = video_length(path) / (first.fps or ENTRY_FPS)
    if seconds > limits.seconds:
        raise VideoError(
            f"{path} lasts {seconds:.1f} seconds, and at most {limits.seconds:g} are taken: cut "
            "out the part whose motion you want."
        )


@contextmanager
def _without_folder(path: Path) -> Iterator[None]:
    """Names a file in an error as its sender does, and not where it lies here."""
    try:
        yield
    except FileNotFoundError:
        raise VideoError(f"{path.name} is not here any more: send it again.") from None
    except ValueError as error:
        raise VideoError(" ".join(str(error).replace(str(path), path.name).split())) from None


def _enlarged(frame: Tensor) -> Tensor:
    """A frame (C, Y, X) whose longer side is CANVAS."""
    scale = CANVAS / max(frame.shape[1:])
    sides = [max(1, round(side * scale)) for side in frame.shape[1:]]
    large = functional.interpolate(frame[None].float(), sides, mode="bilinear", antialias=True)
    return large[0].round().to(torch.uint8)


def _name(path: Path) -> str:
    """A name that an entry can have, after that of the file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.")[:64] or "clip"
