"""What is one clip's failure, and what stops all."""

from __future__ import annotations

import pytest
import torch

from datamodules.encoding_cache import EncodingCache
from datamodules.faults import BROKEN, reported
from ditflow.core.sizes import VideoSize
from ditflow.files import StorageError
from ditflow.models import ModelError
from ditflow.video import VideoError
from tests.registry import tiny_backbone


@pytest.mark.parametrize("error", [VideoError, OSError, RuntimeError, torch.OutOfMemoryError])
def test_what_is_wrong_with_a_clip_is_reported(error):
    failed = []
    with reported("pan", lambda name, reason: failed.append((name, type(reason)))):
        raise error("no")
    assert failed == [("pan", error)]


@pytest.mark.parametrize(
    "error",
    [
        ModelError("the VAE of backbone 'b' cannot be loaded"),
        StorageError("the disk is full"),
        BROKEN[-1]("illegal access"),
    ],
)
def test_what_is_wrong_with_the_backbone_the_disk_or_the_device_stops_all(error):
    with (
        pytest.raises(type(error)),
        reported("pan", lambda *_: pytest.fail("counted as the clip's")),
    ):
        raise error


@pytest.mark.parametrize(
    ("frames", "width", "sentence"),
    [
        (1, 48, "holds no motion"),
        (4, 48, "holds no motion"),
        (21, 48, "would come back with 24"),
        (12, 48, "would come back with 9"),
        (9, 50, "does not divide into tokens"),
    ],
)
def test_a_size_that_cannot_be_is_refused(tmp_path, frames, width, sentence):
    with pytest.raises(ValueError, match=sentence):
        EncodingCache(tmp_path, tiny_backbone("rotary"), VideoSize(frames, 32, width))
