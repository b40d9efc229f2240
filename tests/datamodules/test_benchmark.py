"""The benchmark's synthetic clips: held out, the same everywhere, with prompts that go further from
kind to kind.
"""

from __future__ import annotations

import pytest
import torch

from datamodules.benchmark import KINDS, SyntheticBenchmark, distance
from datamodules.synthetic import CAMERA_MOTIONS, HELD_OUT, MOTIONS, SHAPES, World
from ditflow.core.sizes import VideoSize
from ditflow.metrics import Sample


def clouds(prompt: str) -> str:
    return prompt.split()[-2]


@pytest.mark.parametrize("clip", SyntheticBenchmark(40).clips(), ids=lambda clip: clip.name)
def test_subject_changes_less_than_scene(clip):
    assert tuple(clip.prompts) == KINDS
    caption, subject, scene = clip.prompts.values()
    assert all(
        f" {clip.subjects[kind]}" in prompt and clip.subjects[kind] in (*SHAPES, "clouds")
        for kind, prompt in clip.prompts.items()
    )
    assert (
        set(clip.prompts.values()) <= set(World().prompts())
        and len(set(clip.prompts.values())) == 3
    )
    if clip.name.split("-")[0] in CAMERA_MOTIONS:
        assert distance(clouds(caption), clouds(subject)) == 1
    else:
        assert clouds(caption) == clouds(subject)
        sprites = [prompt.split()[1:3] for prompt in (caption, subject, scene)]
        assert all(
            sprites[0][1] != other[1] and other[0] != clouds(prompt)
            for other, prompt in zip(sprites[1:], (subject, scene), strict=True)
        )
    assert distance(clouds(caption), clouds(scene)) >= 2


def test_clips_are_those_of_their_seeds():
    data, size = SyntheticBenchmark(4, first=7, motions=["pan", "bounce"]), VideoSize(9, 32, 48)
    assert [clip.name for clip in data.clips()] == ["pan-7", "bounce-8", "pan-9", "bounce-10"]
    assert data.clips() == SyntheticBenchmark(4, first=7, motions=["pan", "bounce"]).clips()
    clip = data.clips()[1]
    assert torch.equal(data.video(clip, size), World(size).clip(8, "bounce").frames)
    assert torch.equal(data.exact(clip, size).flow(0, 4), World(size).clip(8, "bounce").flow(0, 4))


def test_every_motion_of_the_world_is_among_the_24():
    assert {clip.name.split("-")[0] for clip in SyntheticBenchmark().clips()} >= set(MOTIONS) - {
        "orbit"
    } and len(SyntheticBenchmark().clips()) == 24


@pytest.mark.parametrize("seed", range(5))
def test_drawn_prompts_are_of_the_clips_kind_and_name_another_palette(seed):
    data = SyntheticBenchmark(9, motions=MOTIONS, prompts=6, seed=seed)
    assert list(data.kinds) == [f"prompt-{number}" for number in range(1, 8)]
    assert [clip.name for clip in data.clips()] == [
        f"{motion}-{index}" for index, motion in enumerate((*MOTIONS, *MOTIONS[:2]))
    ]
    for clip in data.clips():
        caption, *prompts = clip.prompts.values()
        assert len(set(prompts)) == 7 and set(prompts) <= set(World().prompts())
        assert not [prompt for prompt in prompts if clouds(caption) in prompt.split()]
        assert all((" over " in prompt) == (" over " in caption) for prompt in prompts)
    fewer = SyntheticBenchmark(9, motions=MOTIONS, prompts=1, seed=seed).clips()
    for many, few in zip(data.clips(), fewer, strict=True):
        assert few.prompts.items() <= many.prompts.items() and len(few.prompts) == 3


@pytest.mark.parametrize("prompts", [0, 7])
def test_only_so_many_prompts_can_be_drawn(prompts):
    with pytest.raises(ValueError, match=f"{prompts} new prompts for each clip: give 1 to 6"):
        SyntheticBenchmark(1, prompts=prompts)


def test_a_prompt_is_obeyed_by_its_colours():
    accuracy, clip = SyntheticBenchmark(1).metrics()["prompt_accuracy"], World().clip(0)
    for prompt, value in ((clip.prompt, 1.0), (f"not-{clip.palette} clouds", 0.0)):
        assert accuracy.score(Sample(clip.frames, clip.frames, prompt)) == value


@pytest.mark.parametrize(("clips", "first"), [(0, 0), (1, -1), (2, HELD_OUT - 1)])
def test_only_held_out_seeds(clips, first):
    with pytest.raises(ValueError, match="held out"):
        SyntheticBenchmark(clips, first=first)


def test_size_is_the_backbones_unless_given():
    trained = VideoSize(25, 64, 64)
    assert SyntheticBenchmark(1).size_on(trained) == trained
    assert SyntheticBenchmark(1, frames=9, size=(32, 48)).size_on(trained) == VideoSize(9, 32, 48)
