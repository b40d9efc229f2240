"""`ditflow bank reindex|merge|export|rm|gc`: what changes a bank. With --dry_run each says what it
would do; nothing is removed that was not asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from rich.console import Console

from ditflow.bank import BankError, BankStorageError, MotionBank
from ditflow.bank.upkeep import find_garbage, remove_garbage
from trainers.commands.bank.words import count, reported


def reindex(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Write the index anew from the entries."""
    console.print(f"{count(bank.reindex(), 'entry', 'entries')} indexed")
    return 0


def merge(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Copy all entries into another bank. What it holds stays; entries that differ under one name
    are named.
    """
    target = MotionBank(arguments.into, create=True)
    return copy_entries(bank, target, list(bank), console, dry_run=arguments.dry_run)


def export(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Copy some entries, or all, into a new bank."""
    target = MotionBank(arguments.out, create=True)
    if len(target):
        raise BankError(
            f"{arguments.out} is a bank already, and `export` makes a new one: name another place, "
            "or add to it with `ditflow bank merge`."
        )
    names = _known(bank, arguments.entries) or list(bank)
    return copy_entries(bank, target, names, console, dry_run=arguments.dry_run)


def remove(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Remove entries by name. Where one of the names is unknown, nothing is removed."""
    names = _known(bank, arguments.entries)
    for name in names:
        if not arguments.dry_run:
            del bank[name]
        print(f"{'would remove' if arguments.dry_run else 'removed'} {name}", file=console.file)
    return 0


def collect(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Remove what killed runs left and nothing will use."""
    found = find_garbage(bank, arguments.hours, unfinished=arguments.unfinished)
    if not arguments.dry_run:
        remove_garbage(bank, found)
    for garbage in found:
        print(
            f"{'would remove' if arguments.dry_run else 'removed'} {garbage.path}: "
            f"{garbage.reason}",
            file=console.file,
        )
    console.print(f"{count(len(found), 'file', 'files')} of garbage")
    return 0


def copy_entries(
    bank: MotionBank, target: MotionBank, names: Iterable[str], console: Console, *, dry_run: bool
) -> int:
    """Copy entries that the target lacks, and print how many. Returns 1, having said which, where
    some are damaged or differ from those of their name there; else 0.
    """
    done, same, problems = 0, 0, []
    for name in names:
        try:
            copied = bank.copy_to(name, target, dry_run=dry_run)
        except BankStorageError:
            raise
        except BankError as error:
            problems.append(f"not copied: {error}")
            continue
        done, same = done + copied, same + (not copied)
    if done and not dry_run:
        target.reindex()
    console.print(
        f"{count(done, 'entry', 'entries')} {'would be ' if dry_run else ''}copied, "
        f"{same} there already, {len(problems)} refused"
    )
    return reported(problems)


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """The arguments of one of these commands, after the bank."""
    if name == "merge":
        parser.add_argument(
            "into", metavar="INTO", help="the bank that the entries go to; made where there is none"
        )
    if name == "export":
        parser.add_argument("out", metavar="OUT", help="folder or URL of the new bank")
    if name in ("export", "rm"):
        parser.add_argument(
            "entries", metavar="ENTRY", nargs="+" if name == "rm" else "*", help="names in the list"
        )
    if name == "gc":
        parser.add_argument(
            "--hours",
            type=float,
            default=24.0,
            help="leave alone what was written in the last so many hours (24)",
        )
        parser.add_argument(
            "--unfinished",
            action="store_true",
            help="also batches that nobody goes on with: their clips start again from nothing",
        )
    if name != "reindex":
        parser.add_argument(
            "--dry_run", action="store_true", help="say what would be done, and do nothing"
        )


def _known(bank: MotionBank, names: Iterable[str]) -> list[str]:
    """The names, each once. Raises BankError for one that the bank has no entry of."""
    wanted = list(dict.fromkeys(names))
    if unknown := [name for name in wanted if name not in bank]:
        raise BankError(
            f"{bank.path} holds no entry {unknown[0]!r}: nothing was done. `ditflow bank list` "
            "names them all."
        )
    return wanted
