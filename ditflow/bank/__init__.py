"""The motion bank: entries, each what was optimised for one reference clip or the clip's motion
itself, in a folder or object storage. Importing it loads no torch.
"""

from ditflow.bank.bank import MotionBank
from ditflow.bank.errors import BankError, BankStorageError, EntryError, UnknownEntryError
from ditflow.bank.failures import Failure
from ditflow.bank.index import IndexRow
from ditflow.bank.kinds import BankEntry, EntryMetadata, FieldEntry, FieldMetadata, Provenance
from ditflow.bank.search import Found, Match

__all__ = [
    "BankEntry",
    "BankError",
    "BankStorageError",
    "EntryError",
    "EntryMetadata",
    "Failure",
    "FieldEntry",
    "FieldMetadata",
    "Found",
    "IndexRow",
    "Match",
    "MotionBank",
    "Provenance",
    "UnknownEntryError",
]
