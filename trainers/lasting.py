"""Imports of a command, which stay to its end."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """What is imported within is not searched for garbage, now or later.

    Python would look through all of it again and again while it grows: a sixth of the start of
    `fit`.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
