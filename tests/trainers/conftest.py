"""Clips, and the bank that they make: what runs of the command line start from and are compared
with.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clips import whole_bank, write_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """The manifest."""
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory) -> Path:
    """A bank made without interruption, one clip after the other."""
    return whole_bank(tmp_path_factory.mktemp("whole") / "bank", clips)
