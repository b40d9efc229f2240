"""What entries of all kinds are: tensors with metadata, in one file."""

from __future__ import annotations

import hashlib
import io
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Generic, Self, TypeVar, cast

from ditflow.bank.errors import EntryError
from ditflow.bank.file_format import (
    TYPES,
    Header,
    checked_chunks,
    pack,
    read_header,
    read_tensors,
    seal,
)
from ditflow.bank.kinds.clip_metadata import ClipMetadata
from ditflow.bank.kinds.motion import TENSORS, KeptMotion
from ditflow.bank.validation import canonical_json

if TYPE_CHECKING:
    from numpy.typing import NDArray
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
    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {}  # least and most of a tensor's numbers

    metadata: Metadata

    def __post_init__(self) -> None:
        wanted = f"torch.{TYPES[self.NUMBERS][1]}"
        for name, tensor in self.tensors().items():
            if str(tensor.dtype) != wanted:
                raise EntryError(f"tensors: {name} have type {tensor.dtype}, not {wanted}.")
            self._check_numbers(name, tensor.isfinite(), tensor)
        self.metadata.check_shapes(
            {name: tuple(tensor.shape) for name, tensor in self.tensors().items()}
        )

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """By their name in the file, which is that of the attribute."""

    @classmethod
    @abstractmethod
    def read_motion(cls, file: BinaryIO, header: Header) -> KeptMotion | None:
        """The clip's motion from a file that stands behind its header, or None where the entry
        keeps none. Needs no torch. Raises EntryError for what is no motion.
        """

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
    def check(cls, file: BinaryIO, header: Header) -> None:
        """Raise EntryError where `read` would, with flat memory and without torch."""
        import numpy as np

        cls.checked_metadata(header)
        problem = None
        for name, numbers in _numbers(file, header, f"<f{TYPES[cls.NUMBERS][0]}"):
            try:
                cls._check_numbers(name, np.isfinite(numbers), numbers)
            except EntryError as error:
                problem = error
        if problem is not None:  # all were read, so the sums are right
            raise problem.about(header.subject)

    @classmethod
    def _motion(cls, metadata: Metadata, file: BinaryIO, header: Header) -> KeptMotion:
        import numpy as np

        arrays = some_arrays(file, header, TENSORS)
        try:
            for name, numbers in arrays.items():
                cls._check_numbers(name, np.isfinite(numbers), numbers)
        except EntryError as error:
            raise error.about(header.subject) from None
        return KeptMotion(metadata, **arrays)

    @classmethod
    def _check_numbers(cls, name: str, finite: Any, numbers: Any) -> None:
        """Of a tensor or an array: all are finite, and within the limits."""
        if not finite.all():
            raise EntryError(f"tensors: {name} hold numbers that are not finite.")
        low, high = cls.LIMITS.get(name, (-math.inf, math.inf))
        if not ((numbers >= low) & (numbers <= high)).all():
            raise EntryError(f"tensors: {name} holds numbers below {low:g} or above {high:g}.")

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


def some_arrays(file: BinaryIO, header: Header, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Some tensors of a record whose file stands behind its header; the others are not read, so
    their common sum is not compared. Raises EntryError where the file ends too early.
    """
    import numpy as np

    arrays, begin = {}, file.tell()
    for name in names:
        slot = header.slots[name]
        file.seek(begin + slot.start, os.SEEK_SET)
        data = file.read(slot.stop - slot.start)
        if len(data) < slot.stop - slot.start:
            raise EntryError(f"{header.subject} is truncated: {name} ends too early.")
        arrays[name] = np.frombuffer(data, f"<f{TYPES[slot.dtype][0]}").reshape(slot.shape)
    return arrays


def _numbers(file: BinaryIO, header: Header, dtype: str) -> Iterator[tuple[str, Any]]:
    """Parts of the tensors as arrays, by name, a chunk at a time. All are of one type."""
    import numpy as np

    rest, begin, width = b"", 0, np.dtype(dtype).itemsize
    for chunk in checked_chunks(file, header):
        data = rest + chunk
        whole = len(data) - len(data) % width  # a short read may end within a number
        numbers, rest = np.frombuffer(data[:whole], dtype), data[whole:]
        for name, slot in header.slots.items():
            first, last = (max(place - begin, 0) // width for place in (slot.start, slot.stop))
            yield name, numbers[first:last]
        begin += whole


def shapes_of(header: Header) -> dict[str, tuple[int, ...]]:
    """Of all tensors of a record."""
    return {name: slot.shape for name, slot in header.slots.items()}
