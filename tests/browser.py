"""A real browser for tests: the machine's chromium, driven by playwright, with no network but for
servers of this machine.

Where there is no chromium or no playwright, tests are skipped and say why. With
DITFLOW_BROWSER=required, as `.ci/run` sets it where chromium is installed, a browser that cannot be
driven is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ALONE = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


@contextmanager
def browser() -> Iterator[Any]:
    """A playwright browser; closed in the end."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        missing(f"none of {', '.join(NAMES)} is installed")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        missing("playwright is not installed: pip install playwright")
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(
                executable_path=program,
                args=[f"--host-resolver-rules={ALONE}", "--disable-dev-shm-usage"],
            )
        except Error as error:
            missing(f"{program} cannot be started: {error.message.splitlines()[0]}")
        yield started
        started.close()


def missing(reason: str) -> None:
    if os.environ.get("DITFLOW_BROWSER") == "required":
        pytest.fail(f"DITFLOW_BROWSER=required, but {reason}", pytrace=False)
    pytest.skip(reason)


class Opened:
    """A page in a window of its own, and what it complained of or asked for. `place` is a file, or
    the address of a server.
    """

    def __init__(
        self, driver: Any, place: Path | str, width: int = 1280, height: int = 900, **options: Any
    ) -> None:
        self.context = driver.new_context(viewport={"width": width, "height": height}, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(place if isinstance(place, str) else place.resolve().as_uri())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()
