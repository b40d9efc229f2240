"""BankEntry: what was optimised for one reference clip, with its provenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ditflow.bank.kinds.base import Entry
from ditflow.bank.kinds.metadata import EntryMetadata

if TYPE_CHECKING:
    from torch import Tensor

KIND = "ditflow bank entry"


@dataclass(frozen=True, eq=False)
class BankEntry(Entry[EntryMetadata]):
    """Parameters of every guided step, as the variable named in the metadata.

    Attributes:
        parameters: float32 (guided steps, ...), finite; see `metadata.LAYOUTS`.
        reference_latents: float32 (F, C, Hl, Wl) of the clip, or None: the entry cannot serve
            key/value injection.
    Raises: EntryError when tensors and metadata do not fit each other.
    """

    KIND = KIND
    NUMBERS = "F32"
    METADATA = EntryMetadata

    parameters: Tensor
    reference_latents: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        return {"parameters": self.parameters} | (
            {} if self.reference_latents is None else {"reference_latents": self.reference_latents}
        )
