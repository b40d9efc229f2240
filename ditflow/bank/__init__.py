"""The motion bank: entries, each the optimised positions of one reference clip, in a folder or
object storage. Importing it loads no torch.
"""

from ditflow.bank.bank import MotionBank
from ditflow.bank.entry import BankEntry
from ditflow.bank.errors import BankError, BankStorageError, EntryError, UnknownEntryError
from ditflow.bank.failures import Failure
from ditflow.bank.index import IndexRow
from ditflow.bank.metadata import EntryMetadata

__all__ = [
    "BankEntry",
    "BankError",
    "BankStorageError",
    "EntryError",
    "EntryMetadata",
    "Failure",
    "IndexRow",
    "MotionBank",
    "UnknownEntryError",
]
