"""EntryMetadata: where an entry of optimised parameters comes from, and what it fits.

Legend of `LAYOUTS`, one guided step of a parameter: F, H, W token grid, N = F*H*W tokens, D head
dim, E hidden dim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ditflow.bank.errors import EntryError
from ditflow.bank.kinds import motion
from ditflow.bank.kinds.clip_metadata import CLIP_FIELDS, SHA256, TRIPLE, ClipMetadata
from ditflow.bank.validation import (
    Check,
    integer,
    json_object,
    many,
    normal,
    number,
    one_or,
    text,
    whole_or_number,
)

LORA: dict[str, Check] = {"file": text(4096), "sha256": SHA256, "scale": number(-1e6, 1e6)}


def _lora(value: Any) -> dict[str, Any]:
    return normal(LORA, json_object(value))


FIELDS: dict[str, Check] = CLIP_FIELDS | {
    "backbone": text(4096),
    "backbone_fingerprint": SHA256,
    "grid": TRIPLE,
    "window": many(integer(0, 1 << 20), 2, 2),
    "timesteps": many(whole_or_number(0, 1 << 20), 1, 1 << 16),
    "steps": integer(1, 1 << 20),
    "scheduler": text(256),
    "guidance_scale": one_or(number(-1e6, 1e6), many(number(-1e6, 1e6), 2, 2)),
    "guidance": text(64),
    "signal": json_object,
    "variable": text(64),
    "learning_rate": many(number(0, math.inf), 2, 2),
    "inner_steps": integer(1, 1 << 16),
    "injection_blocks": many(integer(0, 1 << 16), 0, 1 << 16),
    "dtype": text(64),
    "quantised": text(64),
    "losses": many(many(number(-1e30, 1e30), 0, 1 << 16), 1, 1 << 16),
    "update": text(64),
    "passes": text(64),
    "begin": text(64),
    "noise_share": number(0, 1),
    "savings": text(256),
    "loras": many(_lora, 0, 64),
    "times": motion.times(0),
}
LATER: dict[str, Any] = {
    "update": "adam",
    "passes": "both",
    "begin": "own",
    "noise_share": 0.0,
    "savings": "",
    "loras": (),
    "quantised": "",
    "caption": "",
    "subject": "",
    "caption_subject": "",
    "fps": 0.0,
    "container": "",
    "reader": "",
    "image_sha256": "",
    "method": "",
    "times": (),
    "words": "",
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
class EntryMetadata(ClipMetadata):
    """Provenance of an entry.

    Attributes:
        backbone: as the user named it. backbone_fingerprint: sha256 of the transformer's
            configuration.
        grid: tokens (F, H, W). window: guided steps start <= step < stop. timesteps: of the guided
            steps.
        steps: of the whole schedule. guidance_scale: of the prompt; a pair is of the experts for
            much and for little noise. signal: name and arguments. variable: what was optimised.
            learning_rate: first and last of the window.
        inner_steps: updates at each guided step. injection_blocks: whose keys and values came from
            the clip. dtype: of the backbone.
        update: adam, sgd or score. passes: of the prompt's guidance in which it acts, both or
            conditional. begin: own or field, where positions began. noise_share: of the initial
            noise, how much moved along the clip's field. savings: approximations of the
            optimisation, in words. loras: in the backbone's weights, the file, sha256 and scale of
            each. quantised: what the weights were made after that, int8 or fp8; empty for nothing.
        losses: per guided step, the loss before each inner update; one that was spared repeats the
            last that was seen.
    """

    checks = FIELDS
    later = LATER

    backbone: str
    backbone_fingerprint: str
    grid: tuple[int, int, int]
    window: tuple[int, int]
    timesteps: tuple[float, ...]
    steps: int
    scheduler: str
    guidance_scale: float | tuple[float, float]
    guidance: str
    signal: dict[str, Any]
    variable: str
    learning_rate: tuple[float, float]
    inner_steps: int
    injection_blocks: tuple[int, ...]
    dtype: str
    losses: tuple[tuple[float, ...], ...]
    update: str = "adam"
    passes: str = "both"
    begin: str = "own"
    noise_share: float = 0.0
    savings: str = ""
    loras: tuple[dict[str, Any], ...] = ()
    quantised: str = ""

    def check_fields(self) -> None:
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
        if self.times:
            motion.check_times(self.times, self.size[0])

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """`parameters` (guided steps, ...) and perhaps `reference_latents`, and a motion field
        where there are times of one.
        """
        needed = {"parameters"} | (motion.TENSORS if self.times else set())
        if not needed <= set(shapes) <= needed | {"reference_latents"}:
            held = ", ".join(map(repr, sorted(needed)))
            raise EntryError(
                f"tensors: an entry holds {held} and perhaps 'reference_latents', not "
                f"{sorted(shapes)!r:.80}."
            )
        if self.times:
            motion.check_shapes(shapes, self.times)
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

    def glance(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        return {
            "backbone": self.backbone,
            "variable": self.variable,
            "grid": self.grid,
            "guided": len(self.timesteps),
            "loss": next((curve[-1] for curve in reversed(self.losses) if curve), 0.0),
            "words": self.words,
        }
