"""The kinds of entry that a bank holds. Read `base.py` first: what all of them have."""

from __future__ import annotations

from typing import BinaryIO

from ditflow.bank.errors import EntryError
from ditflow.bank.file_format import Header
from ditflow.bank.kinds import base
from ditflow.bank.kinds.clip_metadata import Provenance
from ditflow.bank.kinds.entry import BankEntry
from ditflow.bank.kinds.field_entry import FieldEntry, FieldMetadata
from ditflow.bank.kinds.metadata import EntryMetadata
from ditflow.bank.kinds.motion import KeptMotion

AnyEntry = BankEntry | FieldEntry
AnyMetadata = EntryMetadata | FieldMetadata

KINDS: dict[str, type[AnyEntry]] = {kind.KIND: kind for kind in (BankEntry, FieldEntry)}

__all__ = [
    "KINDS",
    "AnyEntry",
    "AnyMetadata",
    "BankEntry",
    "EntryMetadata",
    "FieldEntry",
    "FieldMetadata",
    "KeptMotion",
    "Provenance",
    "check_entry",
    "content_hash",
    "metadata_of",
    "read_entry",
    "read_motion",
]


def read_entry(file: BinaryIO, header: Header) -> AnyEntry:
    """The entry, of whatever kind, whose file stands behind its header."""
    return _kind(header).read(file, header)


def read_motion(file: BinaryIO, header: Header) -> KeptMotion | None:
    """The clip's motion in an entry of any kind, or None where it keeps none. Needs no torch.
    Raises EntryError for what is no motion.
    """
    return _kind(header).read_motion(file, header)


def check_entry(file: BinaryIO, header: Header) -> None:
    """Raise EntryError where `read_entry` would, with flat memory and without torch."""
    _kind(header).check(file, header)


def metadata_of(header: Header) -> AnyMetadata:
    """Metadata of an entry of any kind, compared with the tensors that its header lists. Needs no
    torch.
    """
    return _kind(header).checked_metadata(header)


def content_hash(header: Header) -> str:
    """As `content_hash` of the entry, by its header alone."""
    return base.content_hash(metadata_of(header), header)


def _kind(header: Header) -> type[AnyEntry]:
    if header.kind not in KINDS:
        raise EntryError(f"{header.subject} is no entry but a {header.kind!r:.80}.")
    return KINDS[header.kind]
