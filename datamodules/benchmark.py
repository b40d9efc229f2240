"""What a benchmark runs on: reference clips, each with a prompt of every kind.

The kinds are those of DiTFlow's benchmark (Pondaven et al., CVPR 2025): `caption` says what the
reference shows, `subject` changes its subject and keeps its scene, `scene` changes both. The
synthetic clips are held out from the training of the embedded backbones, and their motion is known
exactly.
"""

# T frames, C = 3 colours, Y X pixel rows and columns, P frame pairs, n points
from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from datamodules.synthetic import (
    CAMERA_MOTIONS,
    HELD_OUT,
    PALETTES,
    SHAPES,
    SyntheticClip,
    World,
    background_prompt,
    sprite_prompt,
)
from ditflow.core.sizes import VideoSize

KINDS = ("caption", "subject", "scene")


@dataclass(frozen=True)
class BenchmarkClip:
    """A reference clip and its prompts by kind; `subjects` are the words of a prompt that name its
    subject, where they are known.

    `video` is a file or a folder of pictures, of which frames from `start` on are taken, a `stride`
    apart; None where the clip is made, not read.
    """

    name: str
    prompts: dict[str, str]
    subjects: dict[str, str] = field(default_factory=dict)
    video: str | None = None
    start: int = 0
    stride: int = 1


class BenchmarkData(ABC):
    """Reference clips. `frames` and `size` (height, width) None are the backbone's own."""

    frames: int | None = None
    size: tuple[int, int] | None = None

    @abstractmethod
    def clips(self) -> list[BenchmarkClip]:
        """All of them, in the order of work. Raises ValueError for what is missing, with what to
        download.
        """

    @abstractmethod
    def video(self, clip: BenchmarkClip, size: VideoSize) -> Tensor:
        """The reference's frames, uint8 (T, C, Y, X). Raises ValueError where they cannot be
        read.
        """

    def exact(self, clip: BenchmarkClip, size: VideoSize) -> SyntheticClip | None:
        """The clip with its exact motion, where that is known."""
        return None

    def size_on(self, trained: VideoSize) -> VideoSize:
        """The size of all references on a backbone that was trained for `trained`."""
        height, width = self.size if self.size is not None else (trained.height, trained.width)
        return VideoSize(self.frames if self.frames is not None else trained.frames, height, width)


class SyntheticBenchmark(BenchmarkData):
    """Held-out clips of the synthetic world, whose seeds are first, first + 1, ...

    Args:
        clips: How many.
        first: Seed of the first.
        motions: Of the clips in turn; by default each clip's seed decides.
        frames: Of each clip; by default as many as the backbone was trained for.
        size: Height and width in pixels; by default the backbone's.
    """

    def __init__(
        self,
        clips: int = 24,
        *,
        first: int = 0,
        motions: Sequence[str] | None = None,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        if clips < 1 or first < 0 or first + clips > HELD_OUT:
            raise ValueError(
                f"{clips} clips from seed {first} on: give at least one clip, and seeds from 0 to {HELD_OUT - 1}, which are held out."
            )
        self.frames, self.size = frames, size
        kinds = [motions[index % len(motions)] if motions else None for index in range(clips)]
        made = [World().clip(first + index, kind) for index, kind in enumerate(kinds)]
        self._seeds = {clip.name: (first + index, clip.motion) for index, clip in enumerate(made)}
        prompts = {clip.name: prompts_of(clip) for clip in made}
        self._clips = [
            BenchmarkClip(name, of, {kind: subject_of(prompt) for kind, prompt in of.items()})
            for name, of in prompts.items()
        ]

    def clips(self) -> list[BenchmarkClip]:
        return self._clips

    def video(self, clip: BenchmarkClip, size: VideoSize) -> Tensor:
        return self.exact(clip, size).frames

    def exact(self, clip: BenchmarkClip, size: VideoSize) -> SyntheticClip:
        return World(size).clip(*self._seeds[clip.name])


def prompts_of(clip: SyntheticClip) -> dict[str, str]:
    """A prompt of each kind, drawn by the clip's name. A camera's clip shows clouds alone: they are
    its subject, and `subject` changes one of the three colour channels of their palette, `scene`
    two at least. A sprite's clip keeps its clouds in `subject`, and gets a new sprite in both."""
    draw = random.Random(clip.name)
    near, far = (
        [name for name in PALETTES if distance(name, clip.palette) in range(*span)]
        for span in ((1, 2), (2, 4))
    )
    if clip.motion in CAMERA_MOTIONS:
        return {
            "caption": clip.prompt,
            "subject": background_prompt(draw.choice(near)),
            "scene": background_prompt(draw.choice(far)),
        }
    own = clip.prompt.split()
    new = {kind: draw.choice(near if kind == "scene" else far) for kind in KINDS[1:]}
    shapes = {
        kind: draw.choice([shape for shape in SHAPES if shape not in own]) for kind in KINDS[1:]
    }
    scene = draw.choice([name for name in far if name != new["scene"]])
    return {
        "caption": clip.prompt,
        "subject": sprite_prompt(clip.palette, new["subject"], shapes["subject"]),
        "scene": sprite_prompt(scene, new["scene"], shapes["scene"]),
    }


def subject_of(prompt: str) -> str:
    """The word that names what is seen in front: the sprite, or the clouds where there is none."""
    return prompt.split(" over ")[0].split()[-1]


def distance(first: str, second: str) -> int:
    """In how many of its three colour channels one palette differs from another."""
    return sum(a != b for a, b in zip(PALETTES[first], PALETTES[second], strict=True))
