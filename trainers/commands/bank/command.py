"""`ditflow bank COMMAND BANK`: look into a bank and keep it in order without loading torch.

Whatever an entry says about itself was written by a stranger: it is shown as plain text, control
characters escaped.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from itertools import chain

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ditflow.bank import BankError, MotionBank
from trainers.commands.bank import compose as bank_compose
from trainers.commands.bank import gallery as bank_gallery
from trainers.commands.bank import search as bank_search
from trainers.commands.bank import share as bank_share
from trainers.commands.bank import status as bank_status
from trainers.commands.bank import upkeep as bank_upkeep
from trainers.commands.bank.list import list_entries
from trainers.commands.bank.words import count, reported
from trainers.progress.view import ROWS, console_of, plain

BLOCKS = " ▁▂▃▄▅▆▇█"
UNKNOWN_FRAMES = (
    "Earlier versions did not write down how a clip's frames were read, and read other frames than "
    "a player shows from some AVI, MPEG-TS, MKV and WebM files and from MP4 files that were cut "
    "without encoding them anew. Fit such a clip again."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command on a bank. Returns 0; 1 when there are damaged entries; 2, with one sentence,
    when the request does not fit the bank.
    """
    arguments = _parser().parse_args(argv)
    try:
        bank = MotionBank(arguments.bank, create=arguments.command is bank_share.pull)
        return int(arguments.command(bank, arguments, console_of(sys.stdout)))
    except BankError as error:
        print(f"ditflow bank: {error}", file=sys.stderr)
        return 2


def show_entry(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """One entry's metadata, and the loss curve of what was optimised."""
    if arguments.entry not in bank:
        near = difflib.get_close_matches(arguments.entry, list(bank), n=3, cutoff=0.5)
        hint = (
            f" Did you mean {' or '.join(near)}?"
            if near
            else " `ditflow bank list` names them all."
        )
        raise BankError(f"{bank.path} holds no entry {arguments.entry!r}.{hint}")
    metadata = bank.metadata(arguments.entry)
    table = Table(show_header=False, box=None)
    facts = metadata.as_dict()
    for field, value in facts.items():
        if field != "losses":
            table.add_row(
                Text(field, style="bold"),
                Text(plain(value if isinstance(value, str) else repr(value)), overflow="fold"),
            )
    console.print(table)
    if not metadata.reader:
        console.print(Text(f"\n{UNKNOWN_FRAMES}"))
    losses = list(chain.from_iterable(facts.get("losses", ())))
    if losses:
        start, stop = facts["window"]
        title = f"\nloss of {len(losses)} updates in steps {start} to {stop - 1}"
        console.print(Text(title, style="bold"))
        console.print(Text("\n".join(loss_curve(losses))))
    return 0


def verify_bank(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Read every byte of every entry and compare the sums."""
    with console.status("reading every entry"):
        problems = bank.verify()
    if not problems:
        console.print(f"{count(len(bank), 'entry', 'entries')}, all sound")
    if unknown := [name for name in bank if _is_silent(bank, name)]:
        names = ", ".join(unknown[:ROWS]) + (
            f" and {len(unknown) - ROWS} more" if len(unknown) > ROWS else ""
        )
        console.print(
            Text(
                f"{count(len(unknown), 'entry', 'entries')} without a word on how frames were "
                f"read: {names}\n{UNKNOWN_FRAMES}"
            )
        )
    return reported(problems)


def _is_silent(bank: MotionBank, name: str) -> bool:
    """Whether a sound entry does not say how its clip's frames were read."""
    try:
        return not bank.metadata(name).reader
    except BankError:
        return False


def loss_curve(values: Sequence[float], width: int = 72, height: int = 8) -> list[str]:
    """A bar chart in lines of text: the highest and the lowest value stand at its left; neighbours
    are averaged when there are more than `width`.
    """
    columns = min(len(values), width)
    edges = [len(values) * column // columns for column in range(columns + 1)]
    means = [
        sum(values[start:stop]) / (stop - start)
        for start, stop in zip(edges, edges[1:], strict=False)
    ]
    low, high = min(means), max(means)
    eighths = [1 + round((mean - low) / ((high - low) or 1.0) * (8 * height - 1)) for mean in means]
    labels = {height - 1: f"{high:.4g}", 0: f"{low:.4g}"}
    bars = {
        row: "".join(BLOCKS[min(max(level - 8 * row, 0), 8)] for level in eighths)
        for row in range(height)
    }
    return [f"{labels.get(row, ''):>10} {bars[row]}".rstrip() for row in reversed(range(height))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ditflow bank",
        description="Look into a motion bank and keep it in order: a folder or any fsspec URL.",
    )
    commands = parser.add_subparsers(required=True, metavar=f"{{{','.join(COMMANDS)}}}")
    for name, (command, about) in COMMANDS.items():
        subparser = commands.add_parser(name, help=about, description=about)
        subparser.epilog = f"example: ditflow bank {name} bank/ {NAMED.get(name, '')}".rstrip()
        if command is bank_share.pull:  # from the hub into the bank
            subparser.add_argument("repo", metavar="USER/NAME", help="a dataset of the hub")
        subparser.add_argument(
            "bank", metavar="BANK", help="the folder or URL that `fit` was given as its bank"
        )
        subparser.set_defaults(command=command)
        if name == "show":
            subparser.add_argument("entry", metavar="ENTRY", help="its name in the list")
        if name == "compose":
            bank_compose.add_arguments(subparser)
        if name == "gallery":
            bank_gallery.add_arguments(subparser)
        if name == "search":
            bank_search.add_arguments(subparser)
        if name == "status":
            bank_status.add_arguments(subparser)
        if command.__module__ == bank_share.__name__:
            bank_share.add_arguments(subparser, name)
        if command.__module__ == bank_upkeep.__name__:
            bank_upkeep.add_arguments(subparser, name)
    return parser


COMMANDS: dict[str, tuple[Callable[[MotionBank, argparse.Namespace, Console], int], str]] = {
    "list": (list_entries, "a table of all entries"),
    "show": (show_entry, "one entry's metadata, with its motion in words, and its loss curve"),
    "search": (bank_search.search, "entries that move like a clip or an entry, or as words say"),
    "gallery": (bank_gallery.gallery, "a page of all motions, moving, to filter and to sort"),
    "compose": (bank_compose.compose, "one motion of two: after one another, added, or by region"),
    "status": (bank_status.status, "how far the runs that build it have come"),
    "verify": (verify_bank, "read every entry and compare its sums"),
    "reindex": (bank_upkeep.reindex, "write the index anew from the entries"),
    "merge": (bank_upkeep.merge, "copy all entries into another bank"),
    "export": (bank_upkeep.export, "copy some entries, or all, into a new bank"),
    "push": (bank_share.push, "add its entries to a dataset of the Hugging Face Hub, with a card"),
    "pull": (bank_share.pull, "copy the entries of a dataset of the Hugging Face Hub into a bank"),
    "rm": (bank_upkeep.remove, "remove entries by name"),
    "gc": (bank_upkeep.collect, "remove what killed runs left and nothing will use"),
}
NAMED = {"show": "car", "merge": "other-bank/", "export": "some/ car", "rm": "car"}  # in examples


if __name__ == "__main__":
    sys.exit(main())
