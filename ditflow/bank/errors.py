"""What can be wrong with a bank. Each is a `BankError`; each message is one sentence that names the
bank, entry or file.
"""

from __future__ import annotations

from ditflow.files import StorageError


class BankError(ValueError):
    """A bank, a name or a request that does not fit."""


class EntryError(BankError):
    """An entry or record that is damaged, foreign, or written by a newer version."""

    def about(self, subject: str) -> EntryError:
        """The same error, saying whose: unless it does already."""
        return self if str(self).startswith(subject) else EntryError(f"{subject}: {self}")


class UnknownEntryError(BankError, KeyError):
    """No entry of that name: also a KeyError, as a mapping raises."""

    def __str__(self) -> str:
        return ValueError.__str__(self)


class BankStorageError(BankError, StorageError):
    """The disk or the object storage refused; nothing half-written is left."""
