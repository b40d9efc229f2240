"""The table at the end of `fit`: clips that this run, or others meanwhile, finished or failed."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from datamodules.library import Library
from ditflow.bank import BankError, FieldMetadata, MotionBank, UnknownEntryError
from trainers.progress.progress import Progress, Watcher
from trainers.progress.view import ROWS, console_of, duration, words


@rank_zero_only
def print_summary(library: Library, todo: Collection[str], seconds: float) -> None:
    """Print the summary of a run that began `seconds` ago, with the clips `todo` to do."""
    progress = Watcher(library.bank, library.tasks, library.done).look()
    console_of(sys.stdout).print(summary(library.bank, progress, todo, seconds))


def summary(
    bank: MotionBank, progress: Progress, todo: Collection[str], seconds: float
) -> RenderableType:
    """A row for each finished or failed clip, up to a limit, and one line for the whole library."""
    new = sorted(progress.done.intersection(todo))
    speed = (
        f", {len(new)} of them now in {duration(seconds)}: "
        f"{3600 * len(new) / seconds:.3g} clips an hour"
        if new
        else ""
    )
    table = Table("clip", "", "loss or motion", "took", header_style="bold", box=None)
    for row in [*_failed(progress), *(_done(bank, name) for name in new)][:ROWS]:
        table.add_row(*(Text(cell, overflow="ellipsis", no_wrap=True) for cell in row))
    hidden = len(progress.failed) + len(new) - table.row_count
    more = (
        [Text(f"… and {hidden} more; `ditflow bank list {bank.path}` shows all")] if hidden else []
    )
    return Group(*([table] if table.row_count else []), *more, Text(words(progress) + speed))


def _failed(progress: Progress) -> Iterator[tuple[str, ...]]:
    for name, failure in progress.failed.items():
        yield (
            name,
            "failed" if failure.attempts == 1 else f"failed {failure.attempts} times",
            "",
            "",
        )


def _done(bank: MotionBank, name: str) -> tuple[str, ...]:
    """With the loss before the first update and before the last, or a motion in words."""
    try:
        metadata = bank.metadata(name)
    except UnknownEntryError:  # without a signal there is none
        return name, "done", "", ""
    except BankError as error:  # damaged since it was published
        return name, str(error), "", ""
    if isinstance(metadata, FieldMetadata):
        return name, "done", metadata.words, duration(metadata.seconds)
    curve = [loss for losses in metadata.losses for loss in losses]
    return (
        name,
        "done",
        f"{curve[0]:.4g} → {curve[-1]:.4g}" if curve else "",
        duration(metadata.seconds),
    )
