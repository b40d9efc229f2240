"""Offline, and on one thread unless OMP_NUM_THREADS says otherwise.

What a test compares bit by bit was made on the same machine with as many threads, whatever its
load.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.hub import Hub

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Modules stay to the end: nobody looks for garbage while they are imported. The process that
    only hands tests to workers collects none, and imports little.
    """
    if session.config.getoption("dist", "no") == "no":
        gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole commands first, and small files last: no worker waits long for another at the end."""
    turns = {"trainers": 0, "ditflow": 2, "datamodules": 3}
    items.sort(key=lambda item: turns.get(item.nodeid.removeprefix("tests/").split("/")[0], 1))


def pytest_collection_finish() -> None:
    """Nor among what they hold, which a rank that is forked would have to copy for it."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def server() -> Iterator[Hub]:
    """A stand-in of the Hugging Face Hub on loopback."""
    from tests.hub import running

    with running() as server:
        yield server


@pytest.fixture
def there(server: Hub, tmp_path: Path) -> Iterator[Hub]:
    """The stand-in without repositories, asked by a client of an empty home."""
    from tests.hub import reached

    server.repositories.clear()
    server.fails.clear()
    with reached(server.url, tmp_path / "home"):
        server.asked.clear()
        yield server
