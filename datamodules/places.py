"""Where a run keeps what is not in the bank."""

from __future__ import annotations

from ditflow.bank.remote_storage import open_folder
from ditflow.bank.storage import LocalFolder


def beside(bank: str, name: str, option: str) -> str:
    """A folder of that name in a bank. Raises ValueError for a bank that is no local folder, with
    the `option` that names another place.
    """
    folder = open_folder(bank)
    if not isinstance(folder, LocalFolder):
        raise ValueError(
            f"the bank {bank} is not a local folder: name one for its {name} with {option}."
        )
    return str(folder.root / name)
