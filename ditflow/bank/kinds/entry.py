"""BankEntry: what was optimised for one reference clip, with its provenance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from ditflow.bank.file_format import Header
from ditflow.bank.kinds import motion
from ditflow.bank.kinds.base import Entry
from ditflow.bank.kinds.metadata import EntryMetadata
from ditflow.bank.kinds.motion import KeptMotion

if TYPE_CHECKING:
    from torch import Tensor

    from ditflow.fields.field import MotionField

# of the motion that is kept, so that a bank can be searched: times, and cells of the shorter side
TIMES, CELLS = 9, 8
KIND = "ditflow bank entry"


@dataclass(frozen=True, eq=False)
class BankEntry(Entry[EntryMetadata]):
    """Parameters of every guided step, as the variable named in the metadata.

    Attributes:
        parameters: float32 (guided steps, ...), finite; see `metadata.LAYOUTS`.
        reference_latents: float32 (F, C, Hl, Wl) of the clip, or None: the entry cannot serve
            key/value injection.
        displacement, confidence: float32, the clip's motion at low resolution as in a
            `FieldEntry`, or None: the entry is not found by its motion.
    Raises: EntryError when tensors and metadata do not fit each other.
    """

    KIND = KIND
    NUMBERS = "F32"
    METADATA = EntryMetadata
    LIMITS = motion.LIMITS

    parameters: Tensor
    reference_latents: Tensor | None = None
    displacement: Tensor | None = None
    confidence: Tensor | None = None

    def with_motion(self, field: MotionField, words: str) -> BankEntry:
        """The same entry with the motion of its clip, at low resolution and in words."""
        count, (rows, columns) = min(TIMES, len(field.times)), field.cells
        shrink = min(1.0, CELLS / min(rows, columns))
        cells = max(1, round(rows * shrink)), max(1, round(columns * shrink))
        times = [at * (field.frames - 1) / max(count - 1, 1) for at in range(count)]
        small = field.resampled(times, cells, field.frames)
        told = replace(self.metadata, method=field.source.method, times=small.times, words=words)
        return replace(
            self,
            metadata=told,
            displacement=small.displacement.contiguous(),
            confidence=small.confidence.contiguous(),
        )

    @property
    def field(self) -> MotionField | None:
        """The motion of the clip at low resolution; None where the entry keeps none."""
        if self.displacement is None or self.confidence is None:
            return None
        return motion.field_of(self.metadata, self.displacement, self.confidence)

    @classmethod
    def read_motion(cls, file: BinaryIO, header: Header) -> KeptMotion | None:
        """Reads no parameters, which may be large, and so compares no sum."""
        metadata = cls.checked_metadata(header)
        return cls._motion(metadata, file, header) if metadata.times else None

    def tensors(self) -> dict[str, Tensor]:
        kept = {
            "parameters": self.parameters,
            "reference_latents": self.reference_latents,
            "displacement": self.displacement,
            "confidence": self.confidence,
        }
        return {name: tensor for name, tensor in kept.items() if tensor is not None}
