"""Help texts, kept in the user's cache folder: making one imports all of Lightning, which takes
seconds.

A text is found again only by the same arguments, terminal width, versions and source files. A cache
that cannot be written is no error.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ditflow" / "help"


def read(arguments: Sequence[str]) -> str | None:
    with suppress(OSError, RuntimeError, UnicodeDecodeError):
        return _file(arguments).read_text(encoding="utf-8") or None
    return None


def write(arguments: Sequence[str], text: str) -> str:
    """Keeps the text, if that is possible, and returns it."""
    with suppress(OSError, RuntimeError):
        file = _file(arguments)
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, prefix=".", delete=False
        ) as temporary:
            temporary.write(text)
        os.replace(temporary.name, file)
    return text


def _file(arguments: Sequence[str]) -> Path:
    sources = sorted(
        file
        for package in ("trainers", "datamodules", "ditflow")
        for file in (Path(__file__).parents[1] / package).rglob("*.py")
    )
    key = [
        *arguments,
        *(f"{file}:{file.stat().st_mtime_ns}" for file in sources),
        str(shutil.get_terminal_size().columns),
        str(sys.stdout.isatty()),
    ]
    key += [
        sys.version,
        *(_version(package) for package in ("ditflow", "lightning", "jsonargparse", "torch")),
    ]
    return folder() / (hashlib.sha256("\n".join(key).encode()).hexdigest() + ".txt")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
