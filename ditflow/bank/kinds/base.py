"""What entries of all kinds are: tensors with metadata, in one file."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Generic, Self, TypeVar, cast

from ditflow.bank.errors import EntryError
from ditflow.bank.file_format import TYPES, Header, pack, read_header, read_tensors, seal
from ditflow.bank.kinds.clip_metadata import ClipMetadata
from ditflow.bank.validation import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

VOLATILE = ("ditflow", "seconds", "date")
Metadata = TypeVar("Metadata", bound=ClipMetadata)


@dataclass(frozen=True, eq=False)
class Entry(ABC, Generic[Metadata]):
    """Metadata and tensors of one kind. One safetensors file; see `file_format.py` for its sums.

    Raises EntryError when tensors and metadata do not fit each other.
    """

    KIND: ClassVar[str]  # in the file
    NUMBERS: ClassVar[str]  # safetensors' name of the tensors' type
    METADATA: ClassVar[type[ClipMetadata]]

    metadata: Metadata

    def __post_init__(self) -> None:
        wanted = f"torch.{TYPES[self.NUMBERS][1]}"
        for name, tensor in self.tensors().items():
            if str(tensor.dtype) != wanted:
                raise EntryError(f"tensors: {name} have type {tensor.dtype}, not {wanted}.")
            if not tensor.isfinite().all():
                raise EntryError(f"tensors: {name} hold numbers that are not finite.")
        self.metadata.check_shapes(
            {name: tuple(tensor.shape) for name, tensor in self.tensors().items()}
        )

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """By their name in the file, which is that of the attribute."""

    @property
    def content_hash(self) -> str:
        """As `content_hash` says of the entry's header."""
        return content_hash(self.metadata, seal(self.KIND, "", {}, self.tensors())[0])

    def to_bytes(self, name: str = "") -> bytes:
        """The entry's file under that name. Equal entries give equal bytes."""
        return b"".join(pack(self.KIND, name, self.metadata.as_dict(), self.tensors()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        file = io.BytesIO(data)
        return cls.read(file, read_header(file, len(data), "the entry"))

    @classmethod
    def read(cls, file: BinaryIO, header: Header) -> Self:
        """From a file that stands behind its header. All that the header claims is checked before
        memory for tensors is taken.
        """
        metadata = cls.checked_metadata(header)
        try:
            return cls(metadata, **read_tensors(file, header))
        except EntryError as error:
            raise error.about(header.subject) from None

    @classmethod
    def checked_metadata(cls, header: Header) -> Metadata:
        """Metadata, compared with the tensors that the header lists. Needs no torch."""
        if header.kind != cls.KIND:
            raise EntryError(f"{header.subject} is no {cls.KIND} but a {header.kind!r:.80}.")
        try:
            metadata = cls.METADATA.from_dict(header.metadata)
            metadata.check_shapes(shapes_of(header))
            if types := {slot.dtype for slot in header.slots.values()} - {cls.NUMBERS}:
                wanted = f"a {cls.KIND} holds {cls.NUMBERS} numbers"
                raise EntryError(f"tensors: {wanted}, not {types.pop()}.")
        except EntryError as error:
            raise error.about(header.subject) from None
        return cast(Metadata, metadata)


def content_hash(metadata: ClipMetadata, header: Header) -> str:
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


def shapes_of(header: Header) -> dict[str, tuple[int, ...]]:
    """Of all tensors of a record."""
    return {name: slot.shape for name, slot in header.slots.items()}
