"""The data of a benchmark: reference clips, each with a prompt of every kind.

The kinds are those of DiTFlow's benchmark (Pondaven et al., CVPR 2025): `caption` describes the
reference, `subject` changes its subject and keeps its scene, `scene` changes both. The synthetic
clips are held out from the training of the embedded backbones, and their motion is known exactly.
"""

# T frames, C = 3 colours, Y X pixel rows and columns, P frame pairs, n points
from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
    obeys,
    sprite_prompt,
)
from ditflow.core.sizes import VideoSize
from ditflow.metrics import Metric, Sample

KINDS = ("caption", "subject", "scene")
NEW_PROMPTS = range(1, 7)  # there are seven prompts of clouds that do not name a clip's own palette


@dataclass(frozen=True)
class BenchmarkClip:
    """A reference clip and its prompts by kind, the caption always among them. `subjects` are the
    words of a prompt that name its subject, where they are known.

    `video` is a file or a folder of pictures, of which every `stride`-th frame from `start` on is
    taken. It is None for a clip that is computed.
    """

    name: str
    prompts: dict[str, str]
    subjects: dict[str, str] = field(default_factory=dict)
    video: str | None = None
    start: int = 0
    stride: int = 1


class BenchmarkData(ABC):
    """Reference clips. `kinds` are the prompts that a benchmark makes videos of. `frames` and
    `size` (height, width) are None where those of the backbone are taken.
    """

    kinds: Sequence[str] = KINDS
    frames: int | None = None
    size: tuple[int, int] | None = None

    @abstractmethod
    def clips(self) -> list[BenchmarkClip]:
        """All clips, in the order of work. Raises ValueError where files are missing, and says what
        to download.
        """

    @abstractmethod
    def video(self, clip: BenchmarkClip, size: VideoSize) -> Tensor:
        """Frames of the reference, uint8 (T, C, Y, X). Raises ValueError where they cannot be
        read.
        """

    def exact(self, clip: BenchmarkClip, size: VideoSize) -> SyntheticClip | None:
        """The clip with its exact motion, or None where the motion is unknown."""
        return None

    def metrics(self) -> Mapping[str, Metric]:
        """Metrics that apply to these clips only, by name."""
        return {}

    def size_on(self, trained: VideoSize) -> VideoSize:
        """The size of all videos on a backbone that was trained for the size `trained`."""
        height, width = self.size if self.size is not None else (trained.height, trained.width)
        return VideoSize(self.frames if self.frames is not None else trained.frames, height, width)


class SyntheticBenchmark(BenchmarkData):
    """Held-out clips of the synthetic world, with the seeds first, first + 1, ...

    Args:
        clips: Number of clips.
        first: Seed of the first clip.
        motions: Motions of the clips in turn; by default each clip's seed decides.
        prompts: Replaces subject and scene by a first prompt and this many more, from 1 to 6, that
            do not name the clip's palette. Their kinds are prompt-1, prompt-2, ...
        seed: Seed that draws these prompts.
        frames: Frames of each clip; by default as many as the backbone was trained for.
        size: Height and width in pixels; by default the backbone's.
    """

    def __init__(
        self,
        clips: int = 24,
        *,
        first: int = 0,
        motions: Sequence[str] | None = None,
        prompts: int | None = None,
        seed: int = 0,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        if clips < 1 or first < 0 or first + clips > HELD_OUT:
            raise ValueError(
                f"{clips} clips from seed {first} on: give at least one clip, "
                f"and seeds from 0 to {HELD_OUT - 1}, which are held out."
            )
        if prompts is not None and prompts not in NEW_PROMPTS:
            raise ValueError(
                f"{prompts} new prompts for each clip: give {NEW_PROMPTS[0]} to {NEW_PROMPTS[-1]}."
            )
        self.frames, self.size = frames, size
        turns = [motions[index % len(motions)] if motions else None for index in range(clips)]
        made = [World().clip(first + index, motion) for index, motion in enumerate(turns)]
        self._seeds = {clip.name: (first + index, clip.motion) for index, clip in enumerate(made)}
        if prompts is None:
            self._clips = [_clip(clip, prompts_of(clip)) for clip in made]
        else:
            self.kinds = [f"prompt-{number}" for number in range(1, 2 + prompts)]
            drawn = [drawn_prompts(clip, 1 + prompts, seed + i) for i, clip in enumerate(made)]
            self._clips = [
                _clip(clip, {KINDS[0]: clip.prompt, **dict(zip(self.kinds, new, strict=True))})
                for clip, new in zip(made, drawn, strict=True)
            ]

    def clips(self) -> list[BenchmarkClip]:
        return self._clips

    def video(self, clip: BenchmarkClip, size: VideoSize) -> Tensor:
        return self.exact(clip, size).frames

    def exact(self, clip: BenchmarkClip, size: VideoSize) -> SyntheticClip:
        return World(size).clip(*self._seeds[clip.name])

    def metrics(self) -> Mapping[str, Metric]:
        return {"prompt_accuracy": PromptAccuracy()}


class PromptAccuracy(Metric):
    """1 where a video has the colours of the clouds that its prompt names, else 0."""

    label, instrument = "Prompt accuracy", "mean colour"

    def measure(self, sample: Sample) -> tuple[float, dict[str, float]]:
        return float(obeys(sample.generated, sample.prompt)), {}


def _clip(clip: SyntheticClip, prompts: dict[str, str]) -> BenchmarkClip:
    subjects = {kind: subject_of(prompt) for kind, prompt in prompts.items()}
    return BenchmarkClip(clip.name, prompts, subjects)


def drawn_prompts(clip: SyntheticClip, count: int, seed: int) -> list[str]:
    """Different prompts for clips like this one, with or without a sprite, that do not name its
    palette.
    """
    sprite = clip.motion not in CAMERA_MOTIONS
    fitting = [
        prompt
        for prompt in World().prompts()
        if (" over " in prompt) == sprite and clip.palette not in prompt.split()
    ]
    return random.Random(f"{clip.name} {seed}").sample(fitting, count)


def prompts_of(clip: SyntheticClip) -> dict[str, str]:
    """A prompt of each kind, drawn by the clip's name.

    A clip under a moving camera shows only clouds, which are its subject: `subject` changes one of
    the three colour channels of their palette, `scene` at least two. A clip with a sprite gets a
    new sprite in both, and keeps its clouds in `subject`.
    """
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
    """The word that names the subject of a prompt: the sprite, or the clouds without a sprite."""
    return prompt.split(" over ")[0].split()[-1]


def distance(first: str, second: str) -> int:
    """The number of colour channels, of three, in which two palettes differ."""
    return sum(a != b for a, b in zip(PALETTES[first], PALETTES[second], strict=True))
