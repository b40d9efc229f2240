"""What a model sees move in the frames of a clip."""

from __future__ import annotations

import pytest
import torch

from ditflow.extraction import extract_motion
from ditflow.motion import AttentionMotionFlow
from tests.clips import clip_of
from tests.registry import SIZE, tiny_backbone


@pytest.mark.parametrize("kind", ["rotary", "sinusoidal", "wan", "wan-i2v"])
def test_extract_motion(kind: str) -> None:
    backbone = tiny_backbone(kind)
    motion = extract_motion(backbone, clip_of().frames)
    grid = backbone.spec.compression.grid(SIZE)
    assert motion.shape == (grid.frames, grid.frames, grid.tokens_per_frame, 2)
    torch.testing.assert_close(motion, motion.round(), rtol=0, atol=0)  # whole tokens
    torch.testing.assert_close(
        extract_motion(backbone, clip_of().frames, AttentionMotionFlow(2)), motion, rtol=0, atol=0
    )
    assert not torch.equal(extract_motion(backbone, clip_of(1).frames), motion)


def test_motion_is_not_extracted_from_what_does_not_fit() -> None:
    backbone, frames = tiny_backbone("rotary"), clip_of().frames
    with pytest.raises(ValueError, match="multiples of 8, such as 32x32"):
        extract_motion(backbone, frames[..., :33])
    with pytest.raises(ValueError, match="a video of 7 frames would come back with 8: use 8 or 9"):
        extract_motion(backbone, frames[:7])
    with pytest.raises(
        ValueError,
        match="reference_timestep='match' is the timestep of each guided step: give a timestep",
    ):
        extract_motion(backbone, frames, AttentionMotionFlow(2, reference_timestep="match"))
    with pytest.raises(ValueError, match="4 frames holds no motion.* Use 8 or more"):
        extract_motion(backbone, frames[:4])


def test_a_clip_is_not_its_frames() -> None:
    with pytest.raises(
        ValueError, match="extract_motion was given a Clip; it takes .* its .frames"
    ):
        extract_motion(tiny_backbone("rotary"), clip_of())  # type: ignore[arg-type]
