"""`ditflow bank list|show|status|verify BANK`: look into a bank without loading torch.

Whatever an entry says about itself was written by a stranger: it is shown as plain text, control characters escaped.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from itertools import chain

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from ditflow.bank import BankError, MotionBank
from trainers import bank_status
from trainers.progress_view import console_of, plain

BLOCKS = " ▁▂▃▄▅▆▇█"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command on a bank. Returns 0; 1 when there are damaged entries; 2, with one sentence, when the request does not fit the bank."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(MotionBank(arguments.bank), arguments, console_of(sys.stdout)))
    except BankError as error:
        print(f"ditflow bank: {error}", file=sys.stderr)
        return 2


def list_entries(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """A table of all entries, from their headers or the index."""
    rows, failures, inflight = {row.name: row for row in bank.index()}, bank.failures(), bank.inflight()
    if rows:
        table = Table("entry", "variable", "grid", "steps", "loss", "clip", "prompt", "size", "date", header_style="bold", box=None)
        for name, row in rows.items():
            facts = ["damaged"] if row.problem else [row.variable, "x".join(map(str, row.grid)), str(row.guided), f"{row.loss:.4g}", row.clip, row.prompt]
            facts += [""] * (6 - len(facts)) + [decimal(row.size), row.date[:16]]
            table.add_row(Text(name, overflow="fold"), *(Text(plain(fact), overflow="ellipsis", no_wrap=True) for fact in facts))
        console.print(table)
    console.print(
        f"{_count(len(rows), 'entry', 'entries')}, {_count(len(inflight), 'batch', 'batches')} in flight, {_count(len(failures), 'clip', 'clips')} failed"
    )
    for name, failure in failures.items():
        console.print(Text(f"failed: {name}, {_count(failure.attempts, 'time', 'times')}: {plain(failure.reason)}"))
    return _report([row.problem for row in rows.values() if row.problem])


def show_entry(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """One entry's metadata and its loss curve."""
    if arguments.entry not in bank:
        near = difflib.get_close_matches(arguments.entry, list(bank), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else " `ditflow bank list` names them all."
        raise BankError(f"{bank.path} holds no entry {arguments.entry!r}.{hint}")
    metadata = bank.metadata(arguments.entry)
    table = Table(show_header=False, box=None)
    for field, value in metadata.as_dict().items():
        if field != "losses":
            table.add_row(Text(field, style="bold"), Text(plain(value if isinstance(value, str) else repr(value)), overflow="fold"))
    console.print(table)
    losses = list(chain.from_iterable(metadata.losses))
    if losses:
        console.print(Text(f"\nloss of {len(losses)} updates in steps {metadata.window[0]} to {metadata.window[1] - 1}", style="bold"))
        console.print(Text("\n".join(loss_curve(losses))))
    return 0


def verify_bank(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Read every byte of every entry and compare the sums."""
    with console.status("reading every entry"):
        problems = bank.verify()
    if not problems:
        console.print(f"{_count(len(bank), 'entry', 'entries')}, all sound")
    return _report(problems)


def loss_curve(values: Sequence[float], width: int = 72, height: int = 8) -> list[str]:
    """A bar chart in lines of text: the highest and the lowest value stand at its left; neighbours are averaged when there are more than `width`."""
    columns = min(len(values), width)
    edges = [len(values) * column // columns for column in range(columns + 1)]
    means = [sum(values[start:stop]) / (stop - start) for start, stop in zip(edges, edges[1:], strict=False)]
    low, high = min(means), max(means)
    eighths = [1 + round((mean - low) / ((high - low) or 1.0) * (8 * height - 1)) for mean in means]
    labels = {height - 1: f"{high:.4g}", 0: f"{low:.4g}"}
    bars = {row: "".join(BLOCKS[min(max(level - 8 * row, 0), 8)] for level in eighths) for row in range(height)}
    return [f"{labels.get(row, ''):>10} {bars[row]}".rstrip() for row in reversed(range(height))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ditflow bank", description="Look into a motion bank: a folder or any fsspec URL.")
    commands = parser.add_subparsers(required=True, metavar="{list,show,status,verify}")
    for name, command, about in (
        ("list", list_entries, "a table of all entries"),
        ("show", show_entry, "one entry's metadata and loss curve"),
        ("status", bank_status.status, "how far the runs that build it have come"),
        ("verify", verify_bank, "read every entry and compare its sums"),
    ):
        subparser = commands.add_parser(name, help=about, description=about)
        subparser.add_argument("bank", metavar="BANK", help="the folder or URL that `fit` was given as its bank")
        subparser.set_defaults(command=command)
        if command is show_entry:
            subparser.add_argument("entry", metavar="ENTRY", help="its name in the list")
        if command is bank_status.status:
            bank_status.add_arguments(subparser)
    return parser


def _report(problems: Sequence[str]) -> int:
    for problem in problems:
        print(plain(problem), file=sys.stderr)
    return 1 if problems else 0


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


if __name__ == "__main__":
    sys.exit(main())
