"""`ditflow bank list BANK`: a line for each entry, written as it is read, so that a bank of any
size needs little memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from rich.cells import set_cell_size
from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from ditflow.bank import IndexRow, MotionBank
from trainers.commands.bank.words import count, reported
from trainers.progress.view import plain

WIDTHS = {
    "variable": 16,
    "grid": 9,
    "steps": 5,
    "loss": 9,
    "clip": 20,
    "size": 9,
    "date": 16,
}  # cells of a terminal; LAST takes the rest. A motion field is the variable "instant".
LAST = "motion | prompt"


def list_entries(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """A table of all entries, from their headers or the index."""
    entries, problems = 0, []
    widths = {"entry": min(max(map(len, bank), default=0), 24)} | WIDTHS
    widths |= {LAST: max(len(LAST), console.width - sum(widths.values()) - 2 * len(widths))}
    for entries, row in enumerate(bank.index(), start=1):
        if entries == 1:
            console.print(
                Text(_line({name: name for name in widths}, widths), style="bold"), soft_wrap=True
            )
        console.file.write(_line(_facts(row), widths) + "\n")
        problems += [row.problem] if row.problem else []
    _print_counts(bank, entries, console)
    return reported(problems)


def _print_counts(bank: MotionBank, entries: int, console: Console) -> None:
    failures, inflight = bank.failures(), len(bank.inflight())
    counts = [
        count(entries, "entry", "entries"),
        count(inflight, "batch", "batches"),
        count(len(failures), "clip", "clips"),
    ]
    console.print(Text(f"{counts[0]}, {counts[1]} in flight, {counts[2]} failed"))
    for name, failure in failures.items():
        console.print(
            Text(
                f"failed: {name}, {count(failure.attempts, 'time', 'times')}: "
                f"{plain(failure.reason)}"
            )
        )


def _facts(row: IndexRow) -> dict[str, str]:
    known = {"entry": row.name, "size": decimal(row.size), "date": row.date[:16]}
    if row.problem:
        return known | {"variable": "damaged"}
    grid = "x".join(map(str, row.grid))
    known |= {"variable": row.variable, "grid": grid, "clip": row.clip}
    known[LAST] = row.words or row.prompt
    if row.guided:  # a motion field is guided at no step, and made with no prompt
        known[LAST] = " | ".join(filter(None, (row.words, row.prompt)))
        known |= {"steps": str(row.guided), "loss": f"{row.loss:.4g}"}
    return known


def _line(facts: Mapping[str, str], widths: Mapping[str, int]) -> str:
    """Cells cut or filled to their width: only a name, which is what the other commands ask for, is
    always whole.
    """
    cells = (
        set_cell_size(plain(facts.get(column, "")[: 2 * width]), width)
        for column, width in widths.items()
        if column != "entry"
    )
    return "  ".join([facts["entry"].ljust(widths["entry"]), *cells]).rstrip()
