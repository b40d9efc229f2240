"""Faults: which errors are one clip's, so that the others go on, and which stop the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from ditflow.files import StorageError
from ditflow.models import ModelError

# The disk, the backbone or the device, not the clip: everything else would fail too
BROKEN = (StorageError, ModelError, getattr(torch, "AcceleratorError", StorageError))
# but for what is BROKEN: these concern a clip or a video, and the others go on
FAILS = (RuntimeError, ValueError, ArithmeticError, MemoryError)
NO_MEMORY = (torch.OutOfMemoryError, MemoryError)
Fail = Callable[[str, Exception], None]
T = TypeVar("T")


@contextmanager
def reported(what: T, fail: Callable[[T, Exception], None]) -> Iterator[None]:
    """Pass errors of one clip to `fail` and go on. Errors of the disk, the backbone or the device
    are raised.
    """
    try:
        yield
    except BROKEN:
        raise
    except (OSError, *FAILS) as error:
        fail(what, error)


def say_failed(name: str, reason: str) -> None:
    """One line on stderr for a clip or a video that cannot be done."""
    print(f"\n{name!r} failed: {reason}", file=sys.stderr, flush=True)


def say_halved(names: Sequence[str], error: Exception) -> None:
    """One line for a batch that failed as a whole."""
    together = f"{', '.join(names)} failed together and will be tried in halves"
    print(f"\n{together}: {error}", flush=True)


def one_line(error: Exception) -> str:
    """What an error says, without line breaks; the name of its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
