"""What the demo does: which clips, which prompts, which seeds, and the file that each becomes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.manifest import video_name
from datamodules.synthetic import CAMERA_MOTIONS, SPRITE_MOTIONS, SyntheticClip, World
from ditflow.files import make_folder, write_csv
from ditflow.video import write_video

FPS = 8.0
MOTIONS = (*CAMERA_MOTIONS, *SPRITE_MOTIONS)
FOLDERS = ("clips", "videos/plain", "videos/optimised", "videos/injected")


@dataclass(frozen=True)
class Task:
    """A held-out clip, the prompt that its motion is fitted with, and the new prompts that it is
    then given to, with another seed.
    """

    clip: SyntheticClip
    prompt: str
    new_prompts: tuple[str, ...]
    seed: int
    new_seed: int

    @property
    def name(self) -> str:
        return self.clip.name

    @property
    def reference(self) -> str:
        return f"clips/{self.name}.mp4"

    @property
    def plain(self) -> str:
        return f"videos/plain/{video_name(self.name, self.prompt, self.seed)}"

    @property
    def optimised(self) -> str:
        return f"videos/optimised/{self.name}.mp4"

    @property
    def injected(self) -> dict[str, str]:
        """File of the video for each new prompt."""
        return {
            prompt: f"videos/injected/{video_name(self.name, prompt, self.new_seed)}"
            for prompt in self.new_prompts
        }


def tasks_of(clips: int, prompts: int, seed: int) -> list[Task]:
    """The motions of the world in turn. Prompts are drawn from those of the clip's kind that do not
    name its own palette.
    """
    return [
        _task(World().clip(index, MOTIONS[index % len(MOTIONS)]), prompts, seed + index)
        for index in range(clips)
    ]


def write_inputs(folder: Path, tasks: Sequence[Task]) -> None:
    """The reference clips, `clips.csv` for `fit` and `prompts.csv` for `predict`."""
    for name in FOLDERS:
        make_folder(folder / name)
    for task in tasks:
        if not (folder / task.reference).exists():
            write_video(folder / task.reference, task.clip.frames, FPS)
    write_csv(
        folder / "clips.csv",
        ("name", "video", "prompt", "seed"),
        ((task.name, task.reference, task.prompt, task.seed) for task in tasks),
    )
    pairs = ((task.name, prompt, task.new_seed) for task in tasks for prompt in task.new_prompts)
    write_csv(folder / "prompts.csv", ("entry", "prompt", "seed"), pairs)


def _task(clip: SyntheticClip, prompts: int, seed: int) -> Task:
    sprite = clip.motion in SPRITE_MOTIONS
    fitting = [
        prompt
        for prompt in World().prompts()
        if (" over " in prompt) == sprite and clip.palette not in prompt.split()
    ]
    prompt, *new = random.Random(f"{clip.name} {seed}").sample(fitting, 1 + prompts)
    return Task(clip, prompt, tuple(new), seed, 1000 + seed)
