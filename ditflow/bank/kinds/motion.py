"""The motion of a clip inside an entry: tensors, their times, and the field that they are."""

# F times, H W rows and columns of cells

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ditflow.bank.errors import EntryError
from ditflow.bank.validation import Check, many, number

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ditflow.bank.kinds.clip_metadata import ClipMetadata
    from ditflow.fields.field import MotionField

MOST_CELLS = 1 << 16  # rows, and columns
TENSORS = {"displacement", "confidence"}
LIMITS = {"confidence": (0.0, 1.0), "displacement": (-100.0, 100.0)}  # as of a MotionField


def times(least: int) -> Check:
    """Times of a field, of which there are so many at least."""
    return many(number(0, 1 << 20), least, 1 << 16)


def check_times(times: Sequence[float], frames: int) -> None:
    """EntryError unless the times of a field rise within a clip of so many frames."""
    rising = all(a < b for a, b in zip(times, times[1:], strict=False))
    if not rising or times[-1] > frames - 1:
        raise EntryError(
            f"metadata: the times of a field of {frames} frames rise from 0 to at most "
            f"{frames - 1}, not as {str(times):.80}."
        )


def check_shapes(shapes: Mapping[str, tuple[int, ...]], times: Sequence[float]) -> None:
    """EntryError unless there are `displacement` (F, 2, H, W) and `confidence` (F, H, W)."""
    moved, trusted = shapes["displacement"], shapes["confidence"]
    if len(trusted) != 3 or moved != (trusted[0], 2, *trusted[1:]):
        raise EntryError(
            "tensors: a motion field has displacement (F, 2, H, W) and confidence (F, H, W), "
            f"not {moved} and {trusted}."
        )
    if trusted[0] != len(times):
        raise EntryError(
            f"tensors: there is a field of {trusted[0]} times, and metadata of {len(times)}."
        )
    if not all(1 <= length <= MOST_CELLS for length in trusted[1:]):
        raise EntryError(
            f"tensors: a motion field has 1 to {MOST_CELLS} rows and columns, not {trusted[1:]}."
        )


@dataclass(frozen=True, eq=False)
class KeptMotion:
    """A motion field as it lies in an entry's file, read and checked without torch.

    Attributes:
        metadata: of the entry.
        displacement, confidence: as in a `MotionField`, in the numbers of the file.
    """

    metadata: ClipMetadata
    displacement: NDArray[Any]
    confidence: NDArray[Any]

    @property
    def times(self) -> tuple[float, ...]:
        return self.metadata.times

    @property
    def frames(self) -> int:
        return self.metadata.size[0]

    @property
    def aspect(self) -> float:
        _, height, width = self.metadata.size
        return width / height

    @property
    def field(self) -> MotionField:
        """Raises FieldError."""
        import torch

        tensors = (torch.tensor(kept) for kept in (self.displacement, self.confidence))
        return field_of(self.metadata, *tensors)


def field_of(metadata: ClipMetadata, displacement: Tensor, confidence: Tensor) -> MotionField:
    """The field of the clip that the metadata describe, in float32. Raises FieldError."""
    from ditflow.fields.field import FieldSource, MotionField

    frames, height, width = metadata.size
    return MotionField(
        displacement=displacement.float(),
        confidence=confidence.float(),
        times=metadata.times,
        frames=frames,
        aspect=width / height,
        source=FieldSource(metadata.method, metadata.clip),
    )
