"""`ditflow bank search BANK`: entries that move like a clip or another entry, or as words say.

Torch is loaded only to follow a clip, and for an entry that does not say its words.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from ditflow.bank import BankError, Found, MotionBank
from trainers.commands.bank.words import count
from trainers.progress.view import plain

if TYPE_CHECKING:
    from ditflow.fields.field import MotionField


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        'examples: ditflow bank search bank/ --words "slow pan left, subject moves up"    '
        "ditflow bank search bank/ --like clip.mp4"
    )
    parser.add_argument(
        "--like", metavar="ENTRY|CLIP", help="an entry of the bank by its name, else a video"
    )
    parser.add_argument(
        "--words",
        metavar="WORDS",
        default="",
        help='motions in words, such as "slow pan left, subject moves up"; with --like, both count',
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, default=10, help="show at most so many entries (10)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, for other programs"
    )


def search(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """A line for each entry that is found, the best first."""
    like = None if arguments.like is None else _like(bank, arguments.like)
    with Console(stderr=True).status("searching"):
        found = bank.search(like=like, words=arguments.words, limit=arguments.limit)
    if arguments.json:
        print(json.dumps(_as_dict(found, arguments)))
    else:
        _print(found, console, like if isinstance(like, str) else "")
    return 0


def _like(bank: MotionBank, given: str) -> str | MotionField:
    """The name of an entry as it is, or the motion of a clip."""
    if given in bank:
        return given
    if not os.path.exists(given):
        raise BankError(
            f"{bank.path} holds no entry {given!r}, and there is no video of that name. "
            "`ditflow bank list` names the entries."
        )
    from ditflow.fields.sources import DIS
    from trainers.commands.motion import followed

    return followed(given, DIS)[0]


def _as_dict(found: Found, arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "like": arguments.like,
        "words": arguments.words,
        "searched": found.searched,
        "left_out": found.left_out,
        "matches": [
            {"entry": match.name, "score": round(match.score, 4), "words": match.words}
            for match in found.matches
        ],
    }


def _print(found: Found, console: Console, own: str) -> None:
    width = max([len("entry"), *(len(match.name) for match in found.matches)])
    if found.matches:
        console.print(Text(f"score  {'entry'.ljust(width)}  motion", style="bold"), soft_wrap=True)
    for match in found.matches:
        line = f"{match.score:5.2f}  {match.name.ljust(width)}  {plain(match.words)}"
        console.print(Text(line), soft_wrap=True)
    entries = count(found.searched, "entry", "entries")
    itself = f"; {own} itself is left out" if own else ""
    console.print(Text(f"{len(found.matches)} shown of {entries} with a motion{itself}"))
    if found.left_out:
        left = count(found.left_out, "entry keeps", "entries keep")
        print(
            f"{left} no motion and cannot be found: fit again, after `ditflow bank rm`.",
            file=sys.stderr,
        )
