"""What the commands on a bank have in common: how they count, and how they say what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainers.progress.view import plain


def count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def reported(problems: Sequence[str]) -> int:
    """The exit code: 1 if there are problems, which go to stderr, else 0."""
    for problem in problems:
        print(plain(problem), file=sys.stderr)
    return 1 if problems else 0
