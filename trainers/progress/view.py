"""Progress as text and tables for a terminal.

The text in a bank may come from strangers, so control characters are escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from trainers.progress.progress import Flight, Progress

ROWS = 20  # of a table; a library may have thousands of clips


def console_of(stream: TextIO) -> Console:
    """A console as wide as the terminal, or wide enough for tables where there is none."""
    return Console(file=stream) if stream.isatty() else Console(file=stream, width=160)


def words(progress: Progress) -> str:
    """One line: what is done, failed, in flight and left, how fast, and until when."""
    flying = {
        name for flight in progress.flights if flight.holder for name in flight.record.names
    } & progress.left
    counts = {
        "failed": len(progress.failed),
        "in flight": len(flying),
        "left": len(progress.left) - len(flying),
    }
    parts = [
        f"{len(progress.done)} of {len(progress.asked)} clips done",
        *(f"{count} {word}" for word, count in counts.items() if count),
    ]
    if progress.clips_per_hour and progress.left:
        parts.append(
            f"{progress.clips_per_hour:.3g} clips an hour, {duration(progress.seconds_left)} to go"
        )
    return ", ".join(parts)


def view(progress: Progress) -> RenderableType:
    """The summary line, the batches in flight with their ranks, and the failures with reasons."""
    return Group(Text(words(progress)), *_flights(progress), *_failures(progress))


def duration(seconds: float | None) -> str:
    """A duration in its two largest units: "3 d 4 h", "2 h 5 min", "40 s"."""
    if seconds is None:
        return "an unknown time"
    if seconds < 1:
        return "less than a second"
    left, units = round(seconds), (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    first = next((index for index, (_, size) in enumerate(units) if left >= size), len(units) - 1)
    parts = [
        (left // size if index == 0 else left % units[first][1] // size, unit)
        for index, (unit, size) in enumerate(units[first : first + 2])
    ]
    return " ".join(
        f"{count} {unit}" for index, (count, unit) in enumerate(parts) if count or index == 0
    )


def plain(text: str) -> str:
    return (
        text
        if text.isprintable()
        else "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode()
            for letter in text
        )
    )


def _flights(progress: Progress) -> Iterator[RenderableType]:
    if not progress.flights:
        return
    table = Table("in flight", "step", "loss", "spent", "on", header_style="bold", box=None)
    for flight in sorted(
        progress.flights, key=lambda flight: (not flight.holder, flight.record.names)
    )[:ROWS]:
        table.add_row(
            *(Text(plain(cell), overflow="ellipsis", no_wrap=True) for cell in _cells(flight))
        )
    yield table
    yield from _more(len(progress.flights))


def _cells(flight: Flight) -> tuple[str, ...]:
    record = flight.record
    losses = " ".join(f"{loss:.4g}" for loss in record.losses[:4]) + (
        " …" if len(record.losses) > 4 else ""
    )
    names = " ".join(record.names[:4]) + (
        f" and {len(record.names) - 4} more" if len(record.names) > 4 else ""
    )
    return (
        names,
        f"{record.step}/{record.steps}",
        losses,
        duration(record.seconds),
        flight.holder or "nobody; goes on with the next run",
    )


def _failures(progress: Progress) -> Iterator[RenderableType]:
    for name, failure in list(progress.failed.items())[:ROWS]:
        times = "once" if failure.attempts == 1 else f"{failure.attempts} times"
        yield Text(f"failed {times}: {plain(name)}: {plain(failure.reason)}")
    yield from _more(len(progress.failed))


def _more(count: int) -> Iterator[Text]:
    if count > ROWS:
        yield Text(f"… and {count - ROWS} more")
