"""`ditflow bank compose BANK NEW FIRST HOW SECOND`: one motion of two, as an entry of its own.

Whatever takes an entry takes it: `predict`, `search`, the gallery, a pipeline.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Console

from ditflow.bank import BankError, FieldEntry, MotionBank, Provenance
from trainers.progress.view import plain

if TYPE_CHECKING:
    from ditflow.fields.field import MotionField

HOW = ("then", "plus", "within")
LONGEST = 70  # characters of each name in the new one's `clip`, or composing again would grow it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples: ditflow bank compose bank/ turn-then-pan turn then pan --at 0.6    "
        "ditflow bank compose bank/ walk-and-pan walk within pan --region mask.png"
    )
    parser.add_argument("new", metavar="NEW", help="the name of the entry that is made")
    parser.add_argument("first", metavar="FIRST", help="a motion field of the bank")
    parser.add_argument(
        "how",
        choices=HOW,
        help="the second comes after the first, is added to it, or has the frame around it",
    )
    parser.add_argument("second", metavar="SECOND", help="another one, or the same")
    parser.add_argument(
        "--at",
        metavar="SHARE",
        type=float,
        help="where in the video the second begins: then, from 0 to 1 (0.5)",
    )
    parser.add_argument(
        "--region",
        metavar="WORDS",
        default="",
        help="where the first is: within, LEFT TOP RIGHT BOTTOM in shares of the frame, or a "
        "picture that is white there; after it perhaps moving",
    )


def compose(bank: MotionBank, arguments: argparse.Namespace, console: Console) -> int:
    """Make the entry, and print its motion in words. Raises BankError for entries that are no
    motion fields, and options that do not belong together.
    """
    how, at, region = arguments.how, arguments.at, arguments.region
    if (how == "within") != bool(region):
        raise BankError(
            "`within` needs --region, such as '0 0 0.5 1' or mask.png; others have none."
        )
    if how != "then" and at is not None:
        raise BankError(f"--at says where the second motion begins after the first, not {how} it.")
    first, second = (_entry(bank, name) for name in (arguments.first, arguments.second))
    if arguments.new in bank:
        raise BankError(
            f"{bank.path} already holds an entry {arguments.new!r}: take another name, or remove "
            "that one by `ditflow bank rm` first."
        )
    try:
        entry = _composed(first, second, how, 0.5 if at is None else at, region)
    except ValueError as error:
        raise BankError(str(error)) from error
    bank.put(arguments.new, entry)
    console.print(f"entry {arguments.new}: {plain(entry.metadata.words)}", markup=False)
    return 0


def _entry(bank: MotionBank, name: str) -> FieldEntry:
    if name not in bank:
        raise BankError(f"{bank.path} holds no entry {name!r}. `ditflow bank list` names them all.")
    entry = bank[name]
    if not isinstance(entry, FieldEntry):
        raise BankError(
            f"entry {name!r} was optimised, and motion fields alone are composed: make one of its "
            "clip with `ditflow fit --method instant`."
        )
    return entry


def _composed(
    first: FieldEntry, second: FieldEntry, how: str, at: float, region: str
) -> FieldEntry:
    from ditflow.core.sizes import VideoSize
    from ditflow.fields import described
    from ditflow.fields.operations import added, chained
    from ditflow.provenance import told

    one, other, where = first.metadata, second.metadata, ""
    if how == "then":
        field, where = chained(first.field, second.field, at), f", at {at:g}"
    elif how == "plus":
        field = added(first.field, second.field)
    else:
        field, where = _within(first.field, second.field, region)
    source = Provenance(
        f"{_short(one.clip)} {how} {_short(other.clip)}{where}",
        clip_sha256="",
        prompt="",
        negative_prompt="",
        seed=0,
        tags=tuple(dict.fromkeys((*one.tags, *other.tags))),
        reader=one.reader and other.reader,
    )
    return FieldEntry.of(
        field, words=described(field), **told(source, VideoSize(*one.size), seconds=0.0)
    )


def _within(first: MotionField, second: MotionField, region: str) -> tuple[MotionField, str]:
    """The motion, and its region in words that name no place on this machine: of a mask, the name
    of its file, and its hash.
    """
    from ditflow.fields.changes import as_region, region_of
    from ditflow.fields.operations import parted
    from ditflow.video import read_mask

    change = as_region(region)
    if not (picture := change.picture):
        field = parted(first, second, **region_of(change, {}, first.aspect))
        return field, f", in {' '.join(change.words)}"
    mask = read_mask(picture)
    field = parted(first, second, **region_of(change, {picture: mask.region}, first.aspect))
    words = " ".join([_short(mask.path.name, 20), *change.words[1:]])
    return field, f", in {words} ({mask.sha256[:8]})"


def _short(name: str, longest: int = LONGEST) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
