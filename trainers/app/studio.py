"""The work of the app, without its page: from a clip to its motion, from a motion to a video.

One piece of work is done at a time, since all visitors share one model.
"""

# T frames, C = 3 colours, Y X pixel rows and columns, H W rows and columns of a mask
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.prompts import video_name
from ditflow import (
    Injection,
    MotionBank,
    VideoProvenance,
    describe_injection,
    inject_motion,
    read_image,
    write_video,
)
from ditflow.bank import BankError, EntryError
from ditflow.files import atomic_file, make_folder
from ditflow.models import Model
from trainers.app.motions import Limits, Motion, motion_of_clip, motion_of_entry
from trainers.app.visits import Visit
from trainers.report.reading import doubts

SHOWN = 24  # entries in the gallery at a time
STRONGEST, LARGEST_SEED = 2.0, 2**32 - 1
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wish:
    """What a video shall be.

    `region` is a mask (H, W) from 0 to 1 on the motion's first frame, or None for all of it; with
    `moving` it goes along with what is in it. The video begins with `image`, where the model takes
    one. With `beside` there is another one, the same without the motion.
    """

    prompt: str
    strength: float = 1.0
    seed: int = 0
    region: Tensor | None = None
    moving: bool = True
    image: Path | None = None
    beside: bool = False

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("Say what the video shows: the prompt is empty.")
        if not 0 <= self.strength <= STRONGEST:
            raise ValueError(f"The strength goes from 0 to {STRONGEST:g}, not {self.strength:g}.")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"The seed goes from 0 to {LARGEST_SEED}, not {self.seed}.")


@dataclass(frozen=True)
class Made:
    """The file of a video, that of the entry that moved it, and that of the video beside it.
    `doubts` are sentences about what was wished.
    """

    video: Path
    entry: Path
    plain: Path | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Studio:
    """A model and what visitors may ask of it. `fps` are those of the videos, and `steps` None is
    what the model recommends.
    """

    model: Model
    limits: Limits = Limits()
    steps: int | None = None
    fps: float = 8.0
    busy: threading.Lock = field(default_factory=threading.Lock)

    def look(self, visit: Visit, clip: Path) -> Motion:
        """Take the motion of a clip. Raises ValueError, in one sentence, for one that is no good;
        what the visitor had before stays.
        """
        with self._work(visit):
            visit.motion = motion_of_clip(clip, self.limits)
            return visit.motion

    def choose(self, visit: Visit, name: str) -> Motion:
        """Take the motion of an entry."""
        with self._work(visit):
            visit.motion = motion_of_entry(visit.bank, name)
            return visit.motion

    def keep(self, visit: Visit, name: str) -> str:
        """Put the motion into the bank under that name, and return the name."""
        if visit.motion is None:
            raise ValueError("There is no motion to keep yet: send a clip first.")
        name = name.strip() or visit.motion.name
        try:
            visit.bank[name] = visit.motion.entry
        except BankError as error:
            if name in visit.bank:
                raise ValueError(f"The bank has a motion {name} already: take another name.") from (
                    error
                )
            raise
        return name

    def gallery(self, visit: Visit, words: str = "") -> list[tuple[Path, str]]:
        """A picture and a caption for each entry, at most SHOWN of them: those that move as the
        words say, or the newest. An entry that is damaged is left out.
        """
        names, cards = _names(visit.bank, words), []
        visit.shown = []
        for name in names:
            try:
                motion = motion_of_entry(visit.bank, name)
            except (EntryError, KeyError):
                continue
            if (picture := drawn(visit.stills, motion, "still.png", Motion.still)) is not None:
                cards.append((picture, f"{name}: {motion.words}"))
                visit.shown.append(name)
        return cards

    def make(self, visit: Visit, wish: Wish, progress: Progress) -> Made:
        """A video as wished, and the entry that moves it. `progress` is told each step.

        Raises Stopped, and leaves nothing behind, where the visitor stops it or goes.
        """
        with self._work(visit):
            motion = _of(visit, wish)
            wishes = [wish, replace(wish, strength=0.0)] if wish.beside else [wish]
            videos = []
            with doubts() as said:
                for number, one in enumerate(wishes):

                    def on_step(done: int, of: int, before: int = number) -> None:
                        visit.check()
                        progress(before * of + done, len(wishes) * of)

                    videos.append(self._video(motion, one, on_step))
            folder = visit.folder / "videos" / motion.entry.content_hash[:16]
            files = [self._write(folder, *video) for video in videos]
            plain = files[1] if wish.beside else None
            return Made(files[0], _entry_file(folder, motion), plain, _of_prompt(said, wish))

    def _video(
        self, motion: Motion, wish: Wish, on_step: Progress
    ) -> tuple[Tensor, VideoProvenance]:
        if wish.image is None and self.model.spec.picture == "required":
            raise ValueError("This model makes a picture move: give the first picture, too.")
        asked: Any = {
            "seed": wish.seed,
            "steps": self.steps,
            "image": None if wish.image is None else read_image(wish.image),
            "how": Injection(strength=wish.strength).of(motion.entry),
        }
        named = {"entry": motion.name, "fps": self.fps, "command": "app"}
        made = describe_injection(self.model, motion.entry, wish.prompt, **asked, **named)
        frames = inject_motion(self.model, motion.entry, wish.prompt, **asked, on_step=on_step)
        return frames, made

    def _write(self, folder: Path, frames: Tensor, made: VideoProvenance) -> Path:
        file = folder / video_name(made.entry, made.prompt, made.seed, made.image)
        file = file.with_stem(f"{file.stem}-strength{made.strength:g}")
        make_folder(folder)
        write_video(file, frames, self.fps, made=made)
        return file

    @contextmanager
    def _work(self, visit: Visit) -> Iterator[None]:
        """One at a time. Whoever has gone while waiting is not served."""
        visit.stop.clear()
        with self.busy:
            visit.check()
            yield


def drawn(
    folder: Path, motion: Motion, name: str, draw: Callable[[Motion], bytes | None]
) -> Path | None:
    """A drawing of a motion as a file of the folder; it is drawn once."""
    path = folder / f"{motion.entry.content_hash[:32]}-{name}"
    if path.exists():
        return path
    if (content := draw(motion)) is None:
        return None
    make_folder(folder)
    with atomic_file(path) as file:
        file.write(content)
    return path


def _of(visit: Visit, wish: Wish) -> Motion:
    """The motion that is wished. Raises ValueError where there is none."""
    if visit.motion is None:
        raise ValueError("There is no motion yet: send a clip, or choose one from the bank.")
    if wish.region is None:
        return visit.motion
    return visit.motion.within(wish.region, moving=wish.moving)


def _of_prompt(said: list[str], wish: Wish) -> tuple[str, ...]:
    """What is said about the visitor's prompt, and not about the model's negative one."""
    if any(sentence.startswith("prompt cut") and wish.prompt[:40] in sentence for sentence in said):
        return ("The prompt is longer than the model reads: its end is left out.",)
    return ()


def _names(bank: MotionBank, words: str) -> list[str]:
    """Of the entries that the gallery shows."""
    if words.strip():
        return [match.name for match in bank.search(words=words, limit=SHOWN).matches]
    rows = [row for row in bank.index() if not row.problem]
    rows.sort(key=lambda row: (row.date, row.name), reverse=True)
    return [row.name for row in rows[:SHOWN]]


def _entry_file(folder: Path, motion: Motion) -> Path:
    """The entry as the file that it is in a bank."""
    bank = MotionBank(folder / "bank", create=True)
    bank.put(motion.name, motion.entry, overwrite=True)
    return folder / "bank" / "entries" / f"{motion.name}.safetensors"
