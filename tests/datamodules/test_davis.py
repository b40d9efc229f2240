"""DAVIS clips from a folder and prompts from a file: the frames asked for, and a sentence for all
that can be missing.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.benchmark import BenchmarkClip
from datamodules.davis import DavisBenchmark
from ditflow.core.sizes import VideoSize
from tests.davis import PROMPTS, write_davis, write_prompts

ROW = {**PROMPTS, "frame_range": [0, 18, 2]}


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp("davis"))


def test_clips_and_prompts(davis):
    data = DavisBenchmark(*map(str, davis))
    prompts = {"caption": "a cat running", "subject": "a dog running", "scene": "a monkey dance"}
    assert data.clips()[0] == BenchmarkClip(
        "cat-walk", prompts, {}, str(davis[0] / "JPEGImages/480p/cat-walk"), 1, 2
    )
    assert [clip.name for clip in DavisBenchmark(*map(str, davis), names=["dog"]).clips()] == [
        "dog"
    ]


def test_subjects_are_taken_where_they_are_given(davis, tmp_path):
    prompts = write_prompts(
        tmp_path, {"dog": {**ROW, "subjects": {"easy": "cat", "hard": "monkey"}}}
    )
    assert DavisBenchmark(str(davis[0]), str(prompts)).clips()[0].subjects == {
        "caption": "cat",
        "scene": "monkey",
    }


def test_frames_are_those_of_the_range(davis):
    data = DavisBenchmark(*map(str, davis))
    clip = data.clips()[0]
    assert data.size_on(VideoSize(49, 480, 720)) == VideoSize(9, 480, 720)
    frames = data.video(clip, data.size_on(VideoSize(49, 48, 64)))
    wanted = [
        np.asarray(Image.open(davis[0] / f"JPEGImages/480p/cat-walk/{number:05d}.jpg"))
        for number in range(1, 19, 2)
    ]
    assert torch.equal(frames, torch.from_numpy(np.stack(wanted)).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("{", "is not JSON"),
        ([], "names no clips"),
        ({}, "names no clips"),
        (
            {"cat-walk": {**ROW, "easy": None}},
            "clip 'cat-walk' lacks one of the texts easy, medium, hard",
        ),
        ({"cat-walk": "a cat"}, "clip 'cat-walk' lacks one of the texts"),
        ({"cat-walk": PROMPTS}, "has the frame_range None: give"),
        ({"cat-walk": {**ROW, "frame_range": [0, 18]}}, r"has the frame_range \[0, 18\]"),
        ({"cat-walk": {**ROW, "frame_range": [0, 18, 0]}}, "a step of at least 1"),
        ({"cat-walk": {**ROW, "frame_range": [5, 5, 1]}}, "give 0 <= start < end"),
        ({"cat-walk": {**ROW, "frame_range": [0, 1.5, 1]}}, "in whole numbers"),
        (
            {"cat-walk": {**ROW, "subjects": ["cat"]}},
            r"has the subjects \['cat'\]: give texts by easy, medium, hard",
        ),
        ({"../cat": ROW}, "'../cat' is no clip's name"),
        (
            {"cat-walk": ROW, "dog": {**ROW, "frame_range": [0, 9, 2]}},
            "'cat-walk' has 9 frames and 'dog' has 5",
        ),
    ],
)
def test_a_bad_prompts_file_is_one_sentence(davis, tmp_path, rows, said):
    with pytest.raises(ValueError, match=said):
        DavisBenchmark(str(davis[0]), str(write_prompts(tmp_path, rows)))


def test_what_is_missing_can_be_downloaded(davis, tmp_path):
    root, prompts = map(str, davis)
    with pytest.raises(ValueError, match=r"--data.davis_root. Download DAVIS 2017"):
        DavisBenchmark(None, prompts)
    with pytest.raises(ValueError, match=r"--data.prompts. The benchmark's prompts are published"):
        DavisBenchmark(root, None)
    with pytest.raises(
        ValueError, match=r"there is no file .*nowhere.json. The benchmark's prompts"
    ):
        DavisBenchmark(root, str(tmp_path / "nowhere.json"))
    with pytest.raises(ValueError, match=r"has no clip bird: it has cat-walk, dog"):
        DavisBenchmark(root, prompts, names=["bird"])
    with pytest.raises(
        ValueError, match=r"there is no folder .*JPEGImages/480p. Download DAVIS 2017"
    ):
        DavisBenchmark(str(tmp_path), prompts).clips()
    more = write_prompts(tmp_path, {"cat-walk": ROW, "deer": ROW, "dog": ROW})
    with pytest.raises(
        ValueError,
        match=r"lacks 1 of 3 clips: deer. Download DAVIS 2017, the 480p archives of TrainVal and "
        "of Test-Dev",
    ):
        DavisBenchmark(root, str(more)).clips()


def test_a_clip_with_too_few_pictures_says_so(tmp_path):
    root, prompts = write_davis(tmp_path, ["cat-walk"], pictures=8)
    data = DavisBenchmark(str(root), str(prompts))
    with pytest.raises(
        ValueError, match="has 8 frames, but frames=9 from start=1 with stride=2 need 18"
    ):
        data.video(data.clips()[0], VideoSize(9, 32, 48))
