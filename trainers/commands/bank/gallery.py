"""`ditflow bank gallery BANK --out FOLDER`: a bank as one page, to look at and to choose from.

The page comes last, in one step, and names only films that are there: whoever looks sees the
gallery of before or the new one. Films of entries that have not changed are kept.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track
from rich.text import Text

from ditflow.bank import BankError, BankStorageError, MotionBank, UnknownEntryError
from ditflow.files import atomic_file, expanded, make_folder
from trainers.commands.bank.words import count, reported
from trainers.extras import need
from trainers.progress.view import plain

if TYPE_CHECKING:
    from ditflow.fields.field import MotionField
    from ditflow.visual import Card

MARK = b'<meta name="generator" content="ditflow gallery">'  # of our pages, near their beginning
FILM = re.compile(r"[0-9a-f]{32}\.webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: ditflow bank gallery bank/ --out gallery/"
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        required=True,
        help="the gallery's folder: new, empty, or a gallery, which is brought up to date",
    )


def gallery(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Write the page and its films, and print where it is. Damaged entries are named, and left
    out.
    """
    need("jinja2", "markupsafe")
    from rich.filesize import decimal

    from ditflow.visual import Gallery, write_gallery
    from trainers.report.gallery import ORDERS, legend

    out = expanded(arguments.out)
    _check_folder(out)
    make_folder(out / "films")
    cards, problems = _cards(bank, out / "films")
    name = plain(bank.path.rstrip("/").rpartition("/")[2] or bank.path)
    told = count(len(cards), "entry", "entries")
    page = Gallery(f"Motions of {name}", cards, ORDERS, legend(), tuple(problems))
    weight = write_gallery(out / "index.html", page)
    _remove_films(out / "films", {card.film.file for card in cards if card.film})
    console.print(Text(f"{out / 'index.html'} ({told}, {decimal(weight)})"), soft_wrap=True)
    return reported(problems)


def _cards(bank: MotionBank, films: Path) -> tuple[tuple[Card, ...], list[str]]:
    """The cards of all entries, and a sentence for each that is damaged."""
    from trainers.report.films import film_of
    from trainers.report.gallery import card_of

    def draw(file: str, motion: MotionField) -> None:
        if not (films / file).exists():
            with atomic_file(films / file) as stream:
                stream.write(film_of(motion))

    cards, problems, shown = [], list[str](), Console(stderr=True)
    for row in track(bank.index(), "drawing", total=len(bank), console=shown, transient=True):
        try:
            cards.append(card_of(bank, row, draw))
        except UnknownEntryError:  # removed by another process since it was listed
            continue
        except BankStorageError:
            raise
        except ValueError as error:
            problems.append(plain(row.problem or str(error)))
    return tuple(cards), problems


def _check_folder(out: Path) -> None:
    """Raises BankError for what is neither new nor a gallery: nothing of others is overwritten."""
    if out.exists() and not out.is_dir():
        raise BankError(f"--out {out} is a file, and a gallery is a folder: name another place.")
    held = {path.name for path in out.iterdir()} if out.is_dir() else set()
    page = out / "index.html"
    ours = page.is_file() and MARK in page.read_bytes()[:1024]
    if not ours and not held <= {"films"}:
        raise BankError(
            f"--out {out} is no gallery, and holds {min(held - {'films'})}: name a new folder, an "
            "empty one or a gallery."
        )


def _remove_films(films: Path, used: set[str]) -> None:
    """Remove films of before that no card shows."""
    for path in films.iterdir():
        if FILM.fullmatch(path.name) and f"films/{path.name}" not in used:
            path.unlink(missing_ok=True)
