"""Ranks that are forked from a process that has done other things before."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.ranks import Ranks


def test_a_rank_never_frees_what_waits_for_threads_of_its_parent(tmp_path: Path) -> None:
    """A frame that was converted has threads, which do not live through a fork."""
    frame = av.VideoFrame.from_ndarray(np.zeros((480, 720, 3), np.uint8), format="rgb24")
    frame.to_ndarray(format="yuv420p")
    circle: list[Any] = [frame]
    circle.append(circle)
    kept = [circle]
    del frame, circle

    def first(_: int) -> None:
        kept.clear()
        gc.collect()

    ranks = Ranks(["--version"], 2, tmp_path / "log", first=first)
    assert ranks.wait(60) == [0, 0]
