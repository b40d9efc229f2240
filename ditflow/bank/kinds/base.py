"""What entries of all kinds have: a file of tensors, and metadata that say which clip they are of.

Metadata are plain JSON data of unknown origin: types and ranges are checked, nothing is run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Generic, Self, TypeVar, cast

from ditflow.bank.errors import EntryError
from ditflow.bank.file_format import TYPES, Header, pack, read_header, read_tensors, seal
from ditflow.bank.validation import (
    Check,
    canonical_json,
    check_names,
    integer,
    iso_date,
    many,
    normal,
    number,
    text,
)

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
VOLATILE = ("ditflow", "seconds", "date")
SHA256 = text(64, r"([0-9a-f]{64})?", "a sha256 in hexadecimal digits, or empty,")
TRIPLE = many(integer(1, 1 << 16), 3, 3)

CLIP_FIELDS: dict[str, Check] = {
    "schema": integer(SCHEMA, SCHEMA),
    "ditflow": text(64),
    "clip": text(4096),
    "clip_sha256": SHA256,
    "prompt": text(1 << 16),
    "negative_prompt": text(1 << 16),
    "seed": integer(-(1 << 63), (1 << 64) - 1),
    "size": TRIPLE,
    "start": integer(0, 1 << 32),
    "stride": integer(1, 1 << 32),
    "fps": number(0, 1e9),
    "container": text(64),
    "reader": text(64),
    "seconds": number(0, 1e12),
    "date": iso_date,
    "tags": many(text(256), 0, 256),
    "caption": text(1 << 16),
    "subject": text(1 << 16),
    "caption_subject": text(1 << 16),
}


@dataclass(frozen=True, kw_only=True)
class ClipMetadata(ABC):
    """Provenance of an entry of any kind.

    Attributes:
        ditflow: version that wrote it. clip: the reference clip's name.
        size: pixels (T, Y, X). start, stride: its first frame and the step to the next, in frames
            of its file.
        fps: frames a second that were taken instead, 0 where the stride was. container: what the
            clip's frames lay in, such as "avi".
        reader: how its frames were counted; empty in entries of before, whose frames may be others
            than a player shows.
        caption, subject, caption_subject: of the clip, for signals that read words; the subject is
            that of the prompt.
        seconds: what it took, its share of a batch. date: ISO 8601.
    Raises: EntryError when a field has another type or an impossible value, or fields contradict
    each other.
    """

    checks: ClassVar[Mapping[str, Check]]  # of each field
    later: ClassVar[Mapping[str, Any]] = {}  # not in older entries; left out where this is meant

    ditflow: str
    clip: str
    clip_sha256: str
    prompt: str
    negative_prompt: str
    seed: int
    size: tuple[int, int, int]
    start: int
    stride: int
    seconds: float
    date: str
    tags: tuple[str, ...] = ()
    fps: float = 0.0
    container: str = ""
    reader: str = ""
    caption: str = ""
    subject: str = ""
    caption_subject: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        with _named():
            checked = normal(self.checks, {**self.later, **self.as_dict()})
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self.check_fields()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From the parsed JSON of a stranger."""
        if values.get("schema") != SCHEMA:
            raise EntryError(
                f"metadata: it has schema {values.get('schema')!r:.80}, and this version of "
                f"ditflow reads schema {SCHEMA}. Update ditflow."
            )
        with _named():
            check_names(cls.checks, {**cls.later, **values})
        return cls(**values)  # which checks each value

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; what entries did not always say is left out where it is what was meant
        then, so that their bytes stay the same.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value
            for name, value in values.items()
            if name not in self.later or value != self.later[name]
        }

    @abstractmethod
    def check_fields(self) -> None:
        """EntryError where fields, each of them sound, contradict each other."""

    @abstractmethod
    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """EntryError unless tensors of these names and shapes are what the metadata describe."""

    @abstractmethod
    def glance(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """What a row of the index says of this kind alone, given the shapes of the tensors."""


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


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise EntryError(f"metadata: {error}.") from None
