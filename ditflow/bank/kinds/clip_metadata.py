"""What the metadata of entries of all kinds say: which clip they are of, and how they were made.

Metadata are plain JSON data of unknown origin: types and ranges are checked, nothing is run.
"""

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ditflow.bank.errors import EntryError
from ditflow.bank.validation import (
    Check,
    check_names,
    integer,
    iso_date,
    many,
    normal,
    number,
    text,
)

SCHEMA = 1
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
    "image_sha256": SHA256,
    "method": text(4096),
    "words": text(1 << 16),
}


@dataclass(frozen=True)
class Provenance:
    """The clip that a motion comes from, how its frames were taken, and the prompt and seed that it
    was taken with.

    Attributes:
        clip: the reference clip's name. clip_sha256: of its file.
        start, stride: its first frame and the step to the next, in frames of its file.
        fps: frames a second that were taken instead, 0 where the stride was. container: what the
            clip's frames lay in, such as "avi"; empty where they were not read from a file.
        reader: how its frames were counted; empty in entries of before, whose frames may be others
            than a player shows.
        caption, subject, caption_subject: of the clip, for signals that read words; the subject is
            that of the prompt.
        image_sha256: of the picture that the optimised video began with; empty where there was
            none.
    """

    clip: str
    clip_sha256: str
    prompt: str
    negative_prompt: str
    seed: int
    tags: tuple[str, ...] = ()
    start: int = 0
    stride: int = 1
    fps: float = 0.0
    container: str = ""
    reader: str = ""
    caption: str = ""
    subject: str = ""
    caption_subject: str = ""
    image_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class ClipMetadata(Provenance, ABC):
    """Where an entry of any kind comes from, and how it was made.

    Attributes:
        ditflow: version that wrote it. size: pixels (T, Y, X) of the clip as taken.
        seconds: what it took, its share of a batch. date: ISO 8601.
        method: how the clip's motion was measured, such as "dis" or "amf of tiny-rope". times: when
            each of the F of its field was, in frames of the clip as taken. words: the motion in
            plain words. All are empty where the entry keeps no motion.
    Raises: EntryError when a field has another type or an impossible value, or fields contradict
    each other.
    """

    checks: ClassVar[Mapping[str, Check]]  # of each field
    later: ClassVar[Mapping[str, Any]] = {}  # not in older entries; left out where this is meant

    ditflow: str
    size: tuple[int, int, int]
    seconds: float
    date: str
    method: str = ""
    times: tuple[float, ...] = ()
    words: str = ""
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


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise EntryError(f"metadata: {error}.") from None
