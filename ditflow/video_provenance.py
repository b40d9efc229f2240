"""How a video was made: a value that its file keeps, as one JSON object in its comment.

A file may come from a stranger: all that it says is checked, and nothing of it is run.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import MISSING, dataclass, fields
from importlib.metadata import version
from typing import Any

from ditflow import __version__
from ditflow.bank.kinds.clip_metadata import CLIP_FIELDS, SHA256, TRIPLE
from ditflow.bank.kinds.metadata import FIELDS as ENTRY_FIELDS
from ditflow.bank.validation import (
    Check,
    check_names,
    integer,
    json_object,
    many,
    normal,
    number,
    one_or,
    strict_json,
    text,
)
from ditflow.core.schedule import Window, check_window
from ditflow.video import VideoError, read_comment

MARK, FORMAT = "ditflow", 1  # the key of the object's first value, which is its format
LONGEST = 1 << 20  # characters of a comment that is taken
PACKAGES = ("ditflow", "torch", "diffusers")
VERSION = text(64, r"[A-Za-z0-9.+!_-]*", "a version")  # which is printed as it is


def as_named(name: str) -> str:
    """The name of a file, a folder or a URL, as others may read it: "~" stands for the user's home
    folder, and "?" for what is no text.
    """
    home = os.path.join(os.path.expanduser("~"), "")
    name = f"~/{name.removeprefix(home)}" if name.startswith(home) and home != "/" else name
    return name.encode("utf-8", "replace").decode("utf-8")


def _place(value: Any) -> str:
    place: str = text(4096)(as_named(value) if isinstance(value, str) else value)
    return place


def _or_none(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _window(value: Any) -> Window:
    try:
        check = text(64) if isinstance(value, str) else number(0, 1)
        window: Window = one_or(check, many(integer(0, 1 << 20), 2, 2))(value)
        check_window(window)
    except ValueError:
        raise ValueError("must be a fraction from 0 to 1, (start, stop), or noise:SIGMA") from None
    return window


def _mask(value: Any) -> dict[str, Any]:
    return normal({"file": _place, "sha256": SHA256}, json_object(value))


def _versions(value: Any) -> dict[str, str]:
    return normal(dict.fromkeys(PACKAGES, VERSION), json_object(value))


ANY = number(-math.inf, math.inf)
FIELDS: dict[str, Check] = {
    **{name: CLIP_FIELDS[name] for name in ("prompt", "negative_prompt", "seed")},
    **{name: CLIP_FIELDS[name] for name in ("clip", "clip_sha256", "image_sha256")},
    **{name: ENTRY_FIELDS[name] for name in ("backbone_fingerprint", "loras")},
    **{name: ENTRY_FIELDS[name] for name in ("dtype", "quantised")},
    **{name: ENTRY_FIELDS[name] for name in ("steps", "guidance", "injection_blocks", "passes")},
    "command": text(64),
    "backbone": _place,
    "bank": _place,
    "entry": text(128),
    "entry_sha256": SHA256,
    "image": _place,
    "size": TRIPLE,
    "fps": number(0, math.inf),
    "guidance_scale": one_or(ANY, many(ANY, 2, 2)),
    "strength": ANY,
    "motion_scale": _or_none(ANY),
    "window": _or_none(_window),
    "noise_share": _or_none(number(0, 1)),
    "change": _or_none(text(4096)),
    "masks": many(_mask, 0, 64),
    "optimised": _or_none(json_object),
    "versions": _versions,
}


@dataclass(frozen=True, kw_only=True)
class VideoProvenance:
    """How a video was made: its prompt and seed, whose motion it has, and how that acted.

    `describe_injection` says it for the arguments of `inject_motion`. `write_video` puts it into
    a file as `made`, and `read_provenance` reads it.

    Attributes:
        prompt: what the video shows. negative_prompt: what it was not to show.
        seed: of its initial noise.
        image: name of the picture that it begins with, and image_sha256 of its file; empty where
            there is none.
        bank: as the user named it. entry: its name there. entry_sha256: its `content_hash`, empty
            where the entry came out of the same run. clip: name of the clip whose motion it is,
            and clip_sha256 of its file, where that is known.
        backbone: as the user named it. backbone_fingerprint: sha256 of the transformer's
            configuration. loras: file, sha256 and scale of each in its weights. dtype: of these.
        quantised: what they were made after that, int8 or fp8; empty for nothing.
        size: pixels (T, Y, X). fps: frames per second. steps, guidance_scale, guidance: of the
            whole schedule.
        strength, passes, motion_scale, injection_blocks: as of `Injection`.
        window, noise_share: as of `Injection`, or None where an entry brings its own.
        change: as of `Injection`.
        masks: file and sha256 of each picture that the change names.
        optimised: in a video that `fit` made, what was optimised and how; else None.
        command: of ditflow: predict, fit or app; empty for Python.
        versions: of ditflow, torch and diffusers; those that are installed, if not given.
    Raises: ValueError where a value has another type or cannot be.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int
    image: str = ""
    image_sha256: str = ""
    bank: str = ""
    entry: str = ""
    entry_sha256: str = ""
    clip: str = ""
    clip_sha256: str = ""
    backbone: str
    backbone_fingerprint: str
    loras: tuple[dict[str, Any], ...] = ()
    dtype: str
    quantised: str = ""
    size: tuple[int, int, int]
    fps: float
    steps: int
    guidance_scale: float | tuple[float, float]
    guidance: str
    strength: float = 1.0
    passes: str = "conditional"
    motion_scale: float | None = None
    injection_blocks: tuple[int, ...] = ()
    window: Window | None = None
    noise_share: float | None = None
    change: str | None = None
    masks: tuple[dict[str, Any], ...] = ()
    optimised: dict[str, Any] | None = None
    command: str = ""
    versions: dict[str, str] | None = None

    def __post_init__(self) -> None:
        given = self.as_dict() | {"versions": self.versions or installed()}
        for name, value in normal(FIELDS, given).items():
            object.__setattr__(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, by the names of the fields."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_json(self) -> str:
        """As a file keeps it. Control characters are escaped, also those that JSON would leave as
        they are: any program may print it.
        """
        values = {MARK: FORMAT, **self.as_dict()}
        text = json.dumps(values, ensure_ascii=False, allow_nan=False)
        return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def read_provenance(path: str | os.PathLike[str]) -> VideoProvenance:
    """How a video was made, as its file says.

    Raises VideoError, in one sentence, for a file that does not say it, is damaged or is no video.
    """
    comment = read_comment(path)
    if f'"{MARK}"' not in comment:
        raise VideoError(
            f"{path} does not say how it was made: ditflow did not write it, or an earlier version "
            "did, or its metadata were taken out."
        )
    try:
        return _from_json(comment)
    except ValueError as error:
        raise VideoError(
            f"{path} says how it was made in metadata that cannot be read: {error}. Use a copy as "
            "ditflow wrote it, or update ditflow."
        ) from error


def installed() -> dict[str, str]:
    """The versions of the packages that make a video here."""
    return {"ditflow": __version__} | {name: version(name) for name in PACKAGES[1:]}


def _from_json(comment: str) -> VideoProvenance:
    if len(comment) > LONGEST:
        raise ValueError(f"its {len(comment)} characters are more than {LONGEST}")
    values = strict_json(comment)
    if (found := values.pop(MARK, None)) != FORMAT:
        raise ValueError(f"its format is {found!r:.80}, and this version of ditflow reads {FORMAT}")
    later = {one.name: one.default for one in fields(VideoProvenance) if one.default is not MISSING}
    try:
        check_names(FIELDS, later | values)
    except ValueError as error:
        raise ValueError(f"it {error}") from None
    return VideoProvenance(**values)
