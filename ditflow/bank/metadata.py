"""EntryMetadata: where an entry comes from and what it fits. Plain JSON data of unknown origin:
types and ranges are checked, nothing is run.

Legend of `LAYOUTS`, one guided step of a parameter: F, H, W token grid, N = F*H*W tokens, D head
dim, E hidden dim.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ditflow.bank.errors import EntryError
from ditflow.bank.validation import (
    Check,
    check_names,
    integer,
    iso_date,
    json_object,
    many,
    normal,
    number,
    text,
    whole_or_number,
)

SCHEMA = 1
SHA256 = text(64, r"([0-9a-f]{64})?", "a sha256 in hexadecimal digits, or empty,")
TRIPLE = many(integer(1, 1 << 16), 3, 3)

FIELDS: dict[str, Check] = {
    "schema": integer(SCHEMA, SCHEMA),
    "ditflow": text(64),
    "backbone": text(4096),
    "backbone_fingerprint": SHA256,
    "grid": TRIPLE,
    "size": TRIPLE,
    "window": many(integer(0, 1 << 20), 2, 2),
    "timesteps": many(whole_or_number(0, 1 << 20), 1, 1 << 16),
    "steps": integer(1, 1 << 20),
    "scheduler": text(256),
    "guidance_scale": number(-1e6, 1e6),
    "guidance": text(64),
    "signal": json_object,
    "variable": text(64),
    "learning_rate": many(number(0, math.inf), 2, 2),
    "inner_steps": integer(1, 1 << 16),
    "injection_blocks": many(integer(0, 1 << 16), 0, 1 << 16),
    "dtype": text(64),
    "prompt": text(1 << 16),
    "negative_prompt": text(1 << 16),
    "seed": integer(-(1 << 63), (1 << 64) - 1),
    "clip": text(4096),
    "clip_sha256": SHA256,
    "start": integer(0, 1 << 32),
    "stride": integer(1, 1 << 32),
    "fps": number(0, 1e9),
    "container": text(64),
    "reader": text(64),
    "losses": many(many(number(-1e30, 1e30), 0, 1 << 16), 1, 1 << 16),
    "seconds": number(0, 1e12),
    "date": iso_date,
    "tags": many(text(256), 0, 256),
    "update": text(64),
    "caption": text(1 << 16),
    "subject": text(1 << 16),
    "caption_subject": text(1 << 16),
}
LATER: dict[str, Any] = {  # not in older entries; left out where this is meant
    "update": "adam",
    "caption": "",
    "subject": "",
    "caption_subject": "",
    "fps": 0.0,
    "container": "",
    "reader": "",
}

# per variable, the shape of its parameter at one step; None: any length. Variables that are not
# named here are checked by who uses them.
LAYOUTS: dict[str, tuple[int | str | None, ...]] = {
    "latents": (None, None, None, None),
    "rotary_tables": (2, 2, "N", None),
    "rotary_positions": (2, "N", 3),
    "sinusoidal": ("N", None),
}


@dataclass(frozen=True, kw_only=True)
class EntryMetadata:
    """Provenance of an entry.

    Attributes:
        ditflow: version that wrote it. backbone: as the user named it. backbone_fingerprint: sha256
            of the transformer's configuration.
        grid: tokens (F, H, W). size: pixels (T, Y, X). window: guided steps start <= step < stop.
            timesteps: of the guided steps.
        steps: of the whole schedule. signal: name and arguments. variable: what was optimised.
            learning_rate: first and last of the window.
        inner_steps: updates at each guided step. injection_blocks: whose keys and values came from
            the clip. dtype: of the backbone.
        clip: the reference clip's name. start, stride: its first frame and the step to the next, in
            frames of its file.
        fps: frames a second that were taken instead, 0 where the stride was. container: what the
            clip's frames lay in, such as "avi".
        reader: how its frames were counted; empty in entries of before, whose frames may be others
            than a player shows.
        update: adam, sgd or score. caption, subject, caption_subject: of the clip, for signals that
            read words; the subject is that of the prompt.
        losses: per guided step, the loss before each inner update. seconds: what it took, its share
            of a batch. date: ISO 8601.
    Raises: EntryError when a field has another type or an impossible value, or fields contradict
    each other.
    """

    ditflow: str
    backbone: str
    backbone_fingerprint: str
    grid: tuple[int, int, int]
    size: tuple[int, int, int]
    window: tuple[int, int]
    timesteps: tuple[float, ...]
    steps: int
    scheduler: str
    guidance_scale: float
    guidance: str
    signal: dict[str, Any]
    variable: str
    learning_rate: tuple[float, float]
    inner_steps: int
    injection_blocks: tuple[int, ...]
    dtype: str
    prompt: str
    negative_prompt: str
    seed: int
    clip: str
    clip_sha256: str
    start: int
    stride: int
    losses: tuple[tuple[float, ...], ...]
    seconds: float
    date: str
    tags: tuple[str, ...] = ()
    update: str = "adam"
    fps: float = 0.0
    container: str = ""
    reader: str = ""
    caption: str = ""
    subject: str = ""
    caption_subject: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for name, value in _normal(self.as_dict()).items():
            object.__setattr__(self, name, value)
        start, stop = self.window
        if not start < stop <= self.steps:
            raise EntryError(
                f"metadata: window {self.window} does not lie in the {self.steps} steps."
            )
        if not len(self.timesteps) == len(self.losses) == stop - start:
            counts = f"{len(self.timesteps)} timesteps and {len(self.losses)} loss curves"
            raise EntryError(
                f"metadata: window {self.window} has {stop - start} steps, but there are {counts}."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EntryMetadata:
        """From the parsed JSON of a stranger."""
        if values.get("schema") != SCHEMA:
            raise EntryError(
                f"metadata: it has schema {values.get('schema')!r:.80}, and this version of "
                f"ditflow reads schema {SCHEMA}. Update ditflow."
            )
        with _named():
            check_names(FIELDS, LATER | dict(values))
        return cls(**values)  # which checks each value

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; what entries did not always say is left out where it is what was meant
        then, so that their bytes stay the same.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value
            for name, value in values.items()
            if name not in LATER or value != LATER[name]
        }

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """EntryError unless tensors of these shapes are what the metadata describe: `parameters`
        (guided steps, ...) and perhaps `reference_latents`.
        """
        if not {"parameters"} <= set(shapes) <= {"parameters", "reference_latents"}:
            raise EntryError(
                "tensors: an entry holds 'parameters' and perhaps 'reference_latents', not "
                f"{sorted(shapes)!r:.80}."
            )
        if len(shapes.get("reference_latents", (0,) * 4)) != 4:
            raise EntryError(
                f"tensors: the reference latents have shape {shapes['reference_latents']}, not "
                "(frames, channels, rows, columns)."
            )
        guided, *shape = shapes["parameters"] or (0,)
        if guided != len(self.timesteps):
            raise EntryError(
                f"tensors: there are parameters of {guided} steps, and metadata of "
                f"{len(self.timesteps)}."
            )
        layout = LAYOUTS.get(self.variable, (None,) * len(shape))
        wanted = tuple(math.prod(self.grid) if length == "N" else length for length in layout)
        if len(shape) != len(wanted) or any(
            want not in (None, have) for want, have in zip(wanted, shape, strict=True)
        ):
            expected = ", ".join("any" if length is None else str(length) for length in wanted)
            raise EntryError(
                f"tensors: {self.variable} on grid {self.grid} has shape ({expected}) at each "
                f"step, and the parameters have {tuple(shape)}."
            )


def _normal(values: Mapping[str, Any]) -> dict[str, Any]:
    with _named():
        return normal(FIELDS, LATER | dict(values))


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise EntryError(f"metadata: {error}.") from None
