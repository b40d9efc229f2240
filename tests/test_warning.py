"""A warning points at the line that called ditflow, however deep the reason lies."""

from __future__ import annotations

import pytest

from datamodules.synthetic import World
from ditflow import extract_motion_field, read_video, write_video
from ditflow.fields import field_of
from ditflow.warning import warn


def test_it_is_the_line_of_who_called(tmp_path):
    still = World().clip(0).frames[:1].expand(9, -1, -1, -1)
    write_video(tmp_path / "still.mp4", still, 8)
    clip = read_video(tmp_path / "still.mp4")
    for call in (
        lambda: field_of(still),
        lambda: extract_motion_field(clip),
        lambda: warn("here is still a line"),
    ):
        with pytest.warns(UserWarning, match="is still") as said:
            call()
        assert said[0].filename == __file__
        assert said[0].lineno == call.__code__.co_firstlineno
