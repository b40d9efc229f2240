"""BankEntry: what was optimised for one reference clip, with its provenance. One safetensors file;
see `header.py` for its sums.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from ditflow.bank.errors import EntryError
from ditflow.bank.file_format import Header, pack, read_header, read_tensors, seal
from ditflow.bank.metadata import EntryMetadata
from ditflow.bank.validation import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

KIND = "ditflow bank entry"
VOLATILE = ("ditflow", "seconds", "date")


@dataclass(frozen=True, eq=False)
class BankEntry:
    """Parameters of every guided step, as the variable named in the metadata.

    Attributes:
        parameters: float32 (guided steps, ...), finite; see `metadata.LAYOUTS`.
        reference_latents: float32 (F, C, Hl, Wl) of the clip, or None: the entry cannot serve
            key/value injection.
    Raises: EntryError when tensors and metadata do not fit each other.
    """

    metadata: EntryMetadata
    parameters: Tensor
    reference_latents: Tensor | None = None

    def __post_init__(self) -> None:
        for name, tensor in self.tensors().items():
            if str(tensor.dtype) != "torch.float32":
                raise EntryError(f"tensors: {name} have type {tensor.dtype}, not torch.float32.")
            if not tensor.isfinite().all():
                raise EntryError(f"tensors: {name} hold numbers that are not finite.")
        self.metadata.check_shapes(
            {name: tuple(tensor.shape) for name, tensor in self.tensors().items()}
        )

    def tensors(self) -> dict[str, Tensor]:
        return {"parameters": self.parameters} | (
            {} if self.reference_latents is None else {"reference_latents": self.reference_latents}
        )

    @property
    def content_hash(self) -> str:
        """As `content_hash` says of the entry's header."""
        return content_hash(self.metadata, seal(KIND, "", {}, self.tensors())[0])

    def to_bytes(self, name: str = "") -> bytes:
        """The entry's file under that name. Equal entries give equal bytes."""
        return b"".join(pack(KIND, name, self.metadata.as_dict(), self.tensors()))

    @classmethod
    def from_bytes(cls, data: bytes) -> BankEntry:
        file = io.BytesIO(data)
        return cls.read(file, read_header(file, len(data), "the entry"))

    @classmethod
    def read(cls, file: BinaryIO, header: Header) -> BankEntry:
        """From a file that stands behind its header. All that the header claims is checked before
        memory for tensors is taken.
        """
        metadata = checked_metadata(header)
        try:
            return cls(metadata, **read_tensors(file, header))
        except EntryError as error:
            raise error.about(header.subject) from None


def content_hash(metadata: EntryMetadata, header: Header) -> str:
    """Sha256 of the tensors' bits and of all metadata but `ditflow`, `seconds` and `date`, which
    differ between runs. Needs no torch.

    Two entries are bit-identical when these are equal, and two banks when they have equal names
    with bit-identical entries.
    """
    lasting = {name: value for name, value in metadata.as_dict().items() if name not in VOLATILE}
    places = sorted([key, slot.dtype, slot.shape, slot.start] for key, slot in header.slots.items())
    return hashlib.sha256(
        canonical_json([lasting, places, header.tensors_sha256]).encode()
    ).hexdigest()


def checked_metadata(header: Header) -> EntryMetadata:
    """Metadata of an entry, compared with the tensors that its header lists. Needs no torch."""
    if header.kind != KIND:
        raise EntryError(f"{header.subject} is no entry but a {header.kind!r:.80}.")
    try:
        metadata = EntryMetadata.from_dict(header.metadata)
        metadata.check_shapes({name: slot.shape for name, slot in header.slots.items()})
        if types := {slot.dtype for slot in header.slots.values()} - {"F32"}:
            raise EntryError(f"tensors: an entry holds F32 numbers, not {types.pop()}.")
    except EntryError as error:
        raise error.about(header.subject) from None
    return metadata
