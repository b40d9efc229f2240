"""What runs of the command line start from and are compared with, clips and the bank that they
make; and such a run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clips import ditflow, whole_bank, write_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """The manifest."""
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory) -> Path:
    """A bank made without interruption, one clip after the other."""
    return whole_bank(tmp_path_factory.mktemp("whole") / "bank", clips)


@pytest.fixture
def run(monkeypatch, capfd):
    """Run a command here: its exit code and what it said."""

    def run(*words: object) -> tuple[int, str, str]:
        with monkeypatch.context() as undone:
            code = ditflow(undone, *map(str, words))
        return code, *capfd.readouterr()

    return run
