"""FieldEntry: a clip's motion itself, as a field, with its provenance. It fits any backbone."""

# F times, H W rows and columns of cells, T Y X frames and pixels of the clip

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from ditflow.bank.errors import EntryError
from ditflow.bank.file_format import Header, checked_chunks
from ditflow.bank.kinds import motion
from ditflow.bank.kinds.base import Entry
from ditflow.bank.kinds.clip_metadata import CLIP_FIELDS, ClipMetadata
from ditflow.bank.kinds.motion import KeptMotion
from ditflow.bank.validation import Check

if TYPE_CHECKING:
    from torch import Tensor

    from ditflow.fields.field import MotionField

FIELDS: dict[str, Check] = CLIP_FIELDS | {"times": motion.times(1)}


@dataclass(frozen=True, kw_only=True)
class FieldMetadata(ClipMetadata):
    """Provenance of a motion field, which always has times."""

    checks = FIELDS
    later = {"image_sha256": ""}

    def check_fields(self) -> None:
        motion.check_times(self.times, self.size[0])

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """`displacement` (F, 2, H, W) and `confidence` (F, H, W)."""
        if set(shapes) != motion.TENSORS:
            raise EntryError(
                "tensors: a motion field holds 'displacement' and 'confidence', not "
                f"{sorted(shapes)!r:.80}."
            )
        motion.check_shapes(shapes, self.times)

    def glance(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        return {"variable": "instant", "grid": shapes["confidence"], "words": self.words}


@dataclass(frozen=True, eq=False)
class FieldEntry(Entry[FieldMetadata]):
    """The motion of a clip: where the content of each cell was in its first frame.

    Attributes:
        displacement: float16 (F, 2, H, W), finite, in shares of the frame's width and height.
        confidence: float16 (F, H, W) from 0 to 1.
    Raises: EntryError when tensors and metadata do not fit each other.
    """

    KIND = "ditflow motion field"
    NUMBERS = "F16"
    METADATA = FieldMetadata
    LIMITS = motion.LIMITS

    displacement: Tensor
    confidence: Tensor

    @classmethod
    def of(cls, field: MotionField, **provenance: Any) -> FieldEntry:
        """An entry of a field.

        `provenance` are the fields of `FieldMetadata` but for `times` and `method`, and for `clip`
        where it is named as the field names it.
        Raises EntryError for a clip of another size.
        """
        told = {"clip": field.source.clip} | provenance
        metadata = FieldMetadata(times=field.times, method=field.source.method, **told)
        frames, height, width = metadata.size
        if frames != field.frames or not math.isclose(width / height, field.aspect, rel_tol=1e-6):
            raise EntryError(
                f"metadata: size {metadata.size} is not that of the field, which has "
                f"{field.frames} frames of width / height {field.aspect:g}."
            )
        return cls(metadata, field.displacement.half(), field.confidence.half())

    @property
    def field(self) -> MotionField:
        """The motion, in float32."""
        return motion.field_of(self.metadata, self.displacement, self.confidence)

    @classmethod
    def read_motion(cls, file: BinaryIO, header: Header) -> KeptMotion:
        metadata = cls.checked_metadata(header)
        body = io.BytesIO(b"".join(checked_chunks(file, header)))
        return cls._motion(metadata, body, header)

    def tensors(self) -> dict[str, Tensor]:
        return {"displacement": self.displacement, "confidence": self.confidence}
