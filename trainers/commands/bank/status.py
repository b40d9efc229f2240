"""`ditflow bank status BANK`: how far the runs that build a bank have come, from any terminal that
sees its folder. Loads no torch.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live

from ditflow.bank import MotionBank
from trainers.progress.progress import Progress, Watcher
from trainers.progress.view import view

PAUSE = 100.0  # looks at a bank take at most one part of so many of the time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        type=seconds,
        nargs="?",
        const=5.0,
        help="look again every so many seconds (5), until all is done",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object for each look, for other programs",
    )


def status(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Look once, or again and again until no clip is left or the user has seen enough."""
    looks = looks_at(Watcher(bank), arguments.watch)
    try:
        return (
            _print(looks)
            if arguments.json
            else _show(looks, console, live=arguments.watch is not None and console.is_terminal)
        )
    except KeyboardInterrupt:
        return 0


def looks_at(watcher: Watcher, every: float | None) -> Iterator[Progress]:
    """One look, or one every so many seconds while clips are left; more seldom where a look takes
    long.
    """
    while True:
        began = time.monotonic()
        progress = watcher.look()
        took = time.monotonic() - began
        yield progress
        if every is None or not progress.left:
            return
        time.sleep(max(every, PAUSE * took))


def seconds(text: str) -> float:
    """For the parser: a number of seconds between looks."""
    value = float(text)
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text} seconds between two looks: give 0.1 to 86400")
    return value


def _print(looks: Iterator[Progress]) -> int:
    for progress in looks:
        print(json.dumps(progress.as_dict()), flush=True)
    return 0


def _show(looks: Iterator[Progress], console: Console, *, live: bool) -> int:
    if not live:
        for progress in looks:
            console.print(view(progress))
        return 0
    with Live(console=console, auto_refresh=False, screen=False) as screen:
        for progress in looks:
            screen.update(view(progress), refresh=True)
    return 0
