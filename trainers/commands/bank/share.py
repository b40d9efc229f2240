"""`ditflow bank push BANK USER/NAME` and `ditflow bank pull USER/NAME BANK`: a bank to a dataset of
the Hugging Face Hub, and from there. Only sound entries go either way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from ditflow.bank import BankError, EntryError, IndexRow, MotionBank, hub
from ditflow.bank.index import FILE, index_lines
from ditflow.bank.remote_storage import open_folder
from ditflow.bank.search import rows as search
from trainers.commands.bank.card import CARD, LISTED, PICTURES, Card, picture_of
from trainers.commands.bank.staging import entry_file, new_rows, stage
from trainers.commands.bank.upkeep import copy_entries
from trainers.commands.bank.words import count, reported

PUSH = 'ditflow bank push bank/ user/name --licence cc-by-4.0 --source "my own clips"'


def push(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Add the bank's entries to a dataset of the hub in one commit, with indexes and a card."""
    about = Card(arguments.repo, arguments.licence, arguments.source)
    place = _place(about.repo, private=arguments.private)
    with TemporaryDirectory(prefix="ditflow-push-") as folder:
        staged = stage(bank, folder)
        there = None if place is None else MotionBank(place.url, create=True)
        known = {} if there is None else _rows_of(there)
        added = new_rows(staged, there, known, overwrite=arguments.overwrite)
        files = {f"entries/{name}.safetensors": entry_file(staged, name) for name in added}
        made = _made(about, staged, there, {**known, **added})
        made[search.FILE] = _search_index(staged, there, added)
        files |= _written(made, Path(folder))
        _tell_of_latents(staged, added)
        number, same = count(len(added), "entry", "entries"), len(staged) - len(added)
        if arguments.dry_run:
            print("\n".join(files), file=console.file)
            done, address = "would be pushed", hub.hub_url(about.repo)
        else:
            new = {"onto": place, "private": arguments.private}
            done, address = "pushed", hub.upload(about.repo, files, f"Add {number}", **new)
    print(f"{number} {done}, {same} there already: {address}", file=console.file)
    return 0


def pull(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Copy all sound entries of a dataset of the hub into the bank. What it holds stays."""
    url = hub.hub_url(arguments.repo, arguments.revision)
    MotionBank(url)  # which says so where there is none
    here, sound, problems = MotionBank(hub.download(url), create=True), [], []
    for name in here:
        try:
            here.check(name)
            sound.append(name)
        except EntryError as error:
            problems.append(f"not pulled: {error}")
    code = copy_entries(here, bank, sound, console, dry_run=arguments.dry_run)
    return max(code, reported(problems))


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """What stands beside the bank."""
    if name == "push":
        parser.epilog = f"example: {PUSH}"
        parser.add_argument("repo", metavar="USER/NAME", help="a dataset, which is made if new")
        parser.add_argument(
            "--licence", metavar="ID", help="needed: of the entries, such as cc-by-4.0"
        )
        parser.add_argument("--source", metavar="TEXT", help="needed: where the clips are from")
        parser.add_argument(
            "--private", action="store_true", help="make a dataset that others cannot see"
        )
        parser.add_argument(
            "--overwrite", action="store_true", help="replace entries that differ under one name"
        )
    else:
        parser.epilog = "example: ditflow bank pull user/name bank/"
        parser.add_argument(
            "--revision", metavar="REV", default="", help="a branch, a tag or a commit (main)"
        )
    parser.add_argument(
        "--dry_run", action="store_true", help="say what would be done, and do nothing"
    )


def _place(repo: str, *, private: bool) -> hub.HubPlace | None:
    """The dataset, or None where it is to be made."""
    place = hub.dataset_at(repo)
    if place is not None and private and not place.private:
        raise BankError(
            f"{repo} is public already: make it private on its page, or push to another name."
        )
    return place


def _tell_of_latents(staged: MotionBank, names: Iterable[str]) -> None:
    for name in filter(staged.keeps_reference, names):
        said = "keeps the latents of its clip, from which its pictures can be decoded"
        print(f"ditflow bank: {name} {said}", file=sys.stderr)


def _rows_of(there: MotionBank) -> dict[str, IndexRow]:
    """The sound entries of a dataset, by name. Raises BankError for one that is no bank."""
    if not len(there) and (other := sorted(open_folder(there.path).listing(""))):
        raise BankError(
            f"{there.path} is no bank: it holds {other[0]}. Push to a name that is new."
        )
    return {row.name: row for row in there.index() if not row.problem}


def _made(
    about: Card, staged: MotionBank, there: MotionBank | None, rows: dict[str, IndexRow]
) -> dict[str, bytes]:
    """By name, the index, the card and pictures of a dataset that will hold these entries."""
    listed = [rows[name] for name in sorted(rows)]
    drawn = {
        row.name: picture
        for row in listed[:LISTED]
        if row.name in staged and (picture := picture_of(staged, row.name)) is not None
    }
    old = {} if there is None else open_folder(there.path).listing(PICTURES)
    pictured = {*drawn, *(file.removesuffix(".png") for file in old)}
    return {
        FILE: b"".join(index_lines(listed)),
        CARD: about.text(listed, pictured).encode(),
        **{f"{PICTURES}/{name}.png": picture for name, picture in drawn.items()},
    }


def _search_index(
    staged: MotionBank, there: MotionBank | None, added: dict[str, IndexRow]
) -> bytes:
    """What the dataset will be searched by, with the marks of files there."""
    known = search.no_rows() if there is None else search.rows_at(there.path)
    marks = {name: row.mark for name, row in added.items()}
    return b"".join(search.packed(search.added(known, search.rows_at(staged.path), marks)))


def _written(made: dict[str, bytes], folder: Path) -> dict[str, Path]:
    for name, data in made.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return {name: folder / name for name in made}
