"""A record of a bank as bytes: one safetensors file, checked before a tensor of it is read.

It carries tensors, JSON metadata, its own name, and two sha256 sums, so that no damage goes
unnoticed. The header is read without torch, and checked before memory for tensors is taken.
`__metadata__` holds `kind`, `name`, `metadata` (canonical JSON), `tensors_sha256` (of all bytes
after the header) and `sha256` (of all that the header says): the header alone can be trusted by
itself, and through it the tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from ditflow.bank.errors import EntryError
from ditflow.bank.validation import canonical_json, strict_json

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Numbers = Tensor | NDArray[Any]

# bytes of an element and torch's name of its type, by safetensors' name
TYPES = {
    "F64": (8, "float64"), "F32": (4, "float32"), "F16": (2, "float16"), "BF16": (2, "bfloat16"),
    "I64": (8, "int64"), "I32": (4, "int32"), "I16": (2, "int16"), "I8": (1, "int8"),
    "U8": (1, "uint8"), "BOOL": (1, "bool"),
}  # fmt: skip
TYPE_NAMES = {torch_name: name for name, (_, torch_name) in TYPES.items()}
ENVELOPE = {"kind", "name", "metadata", "tensors_sha256", "sha256"}
# bytes; CogVideoX-5B with free tables at 49 frames makes entries of 2e8
MAX_HEADER, MAX_BYTES, CHUNK = 1 << 24, 1 << 34, 1 << 20


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies: bytes start <= i < stop after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """What a record says about itself; `subject` is its name in errors, as in "entry 'pan'"."""

    subject: str
    kind: str
    name: str
    metadata: dict[str, Any]
    slots: dict[str, Slot]
    tensors_sha256: str

    @property
    def body(self) -> int:
        """Bytes of all tensors."""
        return max((slot.stop for slot in self.slots.values()), default=0)


def read_header(file: BinaryIO, size: int, subject: str) -> Header:
    """Read and check the header of a record of `size` bytes; leave the file at its first tensor.

    Raises EntryError that begins with the subject.
    """
    if size < 8:
        found = "empty" if size == 0 else f"truncated: it has {size} bytes"
        raise EntryError(f"{subject} is {found}.")
    if size > MAX_BYTES:
        raise EntryError(
            f"{subject} is refused: it has {size} bytes, more than the {MAX_BYTES} that a record "
            "may have."
        )
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, MAX_HEADER):
        raise EntryError(
            f"{subject} is truncated or no safetensors file: its header claims {length} bytes, and "
            f"the file has {size}."
        )
    try:
        header = _parse(file.read(length), subject)
    except (ValueError, TypeError, KeyError) as error:
        unread = f"{subject} has a header that cannot be read"
        raise EntryError(f"{unread}: {_reason(error)}.") from error
    _check_extent(header, available=size - 8 - length)
    return header


def write_header(header: Header) -> bytes:
    """The first bytes of a record's file; equal headers give equal bytes (safetensors' own writer
    orders `__metadata__` at random).
    """
    text = canonical_json(header.metadata)
    envelope = {
        "kind": header.kind,
        "name": header.name,
        "metadata": text,
        "tensors_sha256": header.tensors_sha256,
        "sha256": _seal(header, text),
    }
    table = {
        key: {"dtype": slot.dtype, "shape": slot.shape, "data_offsets": [slot.start, slot.stop]}
        for key, slot in header.slots.items()
    }
    encoded = json.dumps({"__metadata__": envelope, **table}, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded


def checked_chunks(file: BinaryIO, header: Header) -> Iterator[bytes]:
    """The bytes of the tensors, a mebibyte at a time. Once they are all read, EntryError if they
    are too few or do not have their sha256.
    """
    left, digest = header.body, hashlib.sha256()
    while left and (chunk := file.read(min(left, CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
        yield chunk
    if left:
        raise EntryError(f"{header.subject} is truncated: {left} bytes of its tensors are missing.")
    if digest.hexdigest() != header.tensors_sha256:
        raise EntryError(
            f"{header.subject} is damaged: its tensors do not have the sha256 that its header "
            "gives."
        )


def _reason(error: Exception) -> str:
    """What an error says; a KeyError says only which key."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _parse(encoded: bytes, subject: str) -> Header:
    table = strict_json(encoded.decode())
    envelope = table.pop("__metadata__", None)
    if (
        not isinstance(envelope, dict)
        or set(envelope) != ENVELOPE
        or not all(isinstance(value, str) for value in envelope.values())
    ):
        raise ValueError("it was not written by ditflow")
    slots = {key: _slot(row) for key, row in table.items()}
    text = envelope["metadata"]
    told = envelope["kind"], envelope["name"], strict_json(text), slots
    header = Header(subject, *told, envelope["tensors_sha256"])
    if envelope["sha256"] != _seal(header, text):
        raise ValueError("it is damaged, for it does not have the sha256 written in it")
    return header


def _slot(row: Any) -> Slot:
    dtype, shape, (start, stop) = row["dtype"], tuple(row["shape"]), row["data_offsets"]
    if dtype not in TYPES:
        raise ValueError(f"{dtype!r} is no type of number")
    if len(shape) > 8 or not all(
        type(number) is int and 0 <= number <= MAX_BYTES for number in (*shape, start, stop)
    ):
        raise ValueError("a tensor has an impossible shape or place")
    if (
        math.prod(shape) * TYPES[dtype][0] != stop - start
        or math.prod(max(length, 1) for length in shape) > MAX_BYTES
    ):
        what = f"a tensor of {dtype} and shape {shape}"
        raise ValueError(f"{what} cannot lie in {stop - start} bytes")
    return Slot(dtype, shape, start, stop)


def _check_extent(header: Header, available: int) -> None:
    end = 0
    for slot in sorted(header.slots.values(), key=lambda slot: (slot.start, slot.stop)):
        if slot.start != end:
            unread = f"{header.subject} has a header that cannot be read"
            raise EntryError(f"{unread}: its tensors overlap or leave gaps.")
        end = slot.stop
    if end > available:
        claim = f"its tensors claim {end} bytes, and the file has {available} for them"
        raise EntryError(f"{header.subject} is truncated: {claim}.")
    if end < available:
        more = f"its file has {available - end} bytes more than its tensors claim"
        raise EntryError(f"{header.subject} is damaged: {more}.")


def _seal(header: Header, text: str) -> str:
    slots = header.slots.items()
    places = sorted([key, at.dtype, at.shape, at.start, at.stop] for key, at in slots)
    return hashlib.sha256(
        canonical_json([header.kind, header.name, text, header.tensors_sha256, places]).encode()
    ).hexdigest()


def pack(
    kind: str, name: str, metadata: Mapping[str, Any], tensors: Mapping[str, Numbers]
) -> list[bytes | memoryview]:
    """A record as buffers to be written one after the other. Equal arguments give equal bytes;
    tensors on the CPU, and arrays, are not copied.
    """
    header, buffers = seal(kind, name, metadata, tensors)
    return [write_header(header), *buffers]


def seal(
    kind: str, name: str, metadata: Mapping[str, Any], tensors: Mapping[str, Numbers]
) -> tuple[Header, list[memoryview]]:
    """The header of a record, and its tensors in the one order in which they are written."""
    slots: dict[str, Slot] = {}
    buffers, start, digest = [], 0, hashlib.sha256()
    # widest first: all are aligned
    for key, tensor in sorted(tensors.items(), key=lambda it: (-it[1].itemsize, it[0])):
        buffers.append(_bytes(tensor))
        dtype = TYPE_NAMES[str(tensor.dtype).removeprefix("torch.")]
        slots[key] = Slot(dtype, tuple(tensor.shape), start, start + buffers[-1].nbytes)
        start = slots[key].stop
        digest.update(buffers[-1])
    return Header("", kind, name, dict(metadata), slots, digest.hexdigest()), buffers


def read_tensors(file: BinaryIO, header: Header) -> dict[str, Tensor]:
    """All tensors of a record, checked against their sha256; `file` stands behind the header."""
    import torch

    body, filled = bytearray(header.body), 0
    for chunk in checked_chunks(file, header):
        body[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    tensors = {}
    for key, slot in header.slots.items():
        dtype, count = getattr(torch, TYPES[slot.dtype][1]), math.prod(slot.shape)
        flat = torch.empty(0, dtype=dtype)
        if count:
            flat = torch.frombuffer(body, dtype=dtype, count=count, offset=slot.start)
        tensors[key] = flat.reshape(slot.shape)
    return tensors


def _bytes(values: Numbers) -> memoryview:
    import numpy as np

    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    import torch

    return values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
