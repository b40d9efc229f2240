"""Record: tensors and their header as bytes, and back. Any safetensors reader opens what is written here."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from ditflow.bank.header import Header, Slot, checked_chunks, write_header

if TYPE_CHECKING:
    from torch import Tensor

# torch's name of a type, by safetensors' name
TORCH_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
}  # fmt: skip
TYPE_NAMES = {f"torch.{torch_name}": name for name, torch_name in TORCH_TYPES.items()}


def pack(kind: str, name: str, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[bytes | memoryview]:
    """A record as buffers to be written one after the other. Equal arguments give equal bytes; tensors on the CPU are not copied."""
    header, buffers = seal(kind, name, metadata, tensors)
    return [write_header(header), *buffers]


def seal(kind: str, name: str, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Header, list[memoryview]]:
    """The header of a record, and its tensors in the one order in which they are written."""
    slots: dict[str, Slot] = {}
    buffers, start = [], 0
    for key, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):  # widest first: all are aligned
        buffers.append(_bytes(tensor))
        slots[key] = Slot(TYPE_NAMES[str(tensor.dtype)], tuple(tensor.shape), start, start + buffers[-1].nbytes)
        start = slots[key].stop
    return Header("", kind, name, dict(metadata), slots, _sha256(buffers)), buffers


def read_tensors(file: BinaryIO, header: Header) -> dict[str, Tensor]:
    """All tensors of a record, checked against their sha256; `file` stands behind the header."""
    import torch

    body, filled = bytearray(header.body), 0
    for chunk in checked_chunks(file, header):
        body[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    tensors = {}
    for key, slot in header.slots.items():
        dtype, count = getattr(torch, TORCH_TYPES[slot.dtype]), math.prod(slot.shape)
        flat = torch.frombuffer(body, dtype=dtype, count=count, offset=slot.start) if count else torch.empty(0, dtype=dtype)
        tensors[key] = flat.reshape(slot.shape)
    return tensors


def _sha256(buffers: Sequence[memoryview]) -> str:
    digest = hashlib.sha256()
    for buffer in buffers:
        digest.update(buffer)
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
