"""Does an entry or a motion field fit a backbone, and what does it bring to a generation?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from ditflow.bank import BankEntry, EntryError, FieldEntry
from ditflow.bank.kinds import AnyEntry
from ditflow.compatibility.injection import Injection
from ditflow.compatibility.optimised import entry_control
from ditflow.core.schedule import GuidanceKind, GuidanceWindow, Scale, Window
from ditflow.core.sizes import VideoSize
from ditflow.fields.changes import changed
from ditflow.fields.field import MotionField
from ditflow.models import Model
from ditflow.models.presets import recommended
from ditflow.sampling.control import Control
from ditflow.sampling.inject import Instant
from ditflow.sampling.recipe import given_or


@dataclass(frozen=True)
class Injected:
    """What an entry brings to a generation: its control, and the settings that it was made for."""

    control: Control
    size: VideoSize
    steps: int
    guidance_scale: Scale
    guidance: GuidanceKind | None
    negative_prompt: str


def injected(
    backbone: Model,
    motion: AnyEntry | MotionField,
    how: Injection,
    size: VideoSize | None = None,
) -> Injected:
    """An entry or a motion field, made ready for a backbone.

    `size` None is the entry's, or for a field the backbone's own. Optimised positions are read as
    a field of offsets on another size. Raises EntryError as `check_entry` does, and ValueError for
    a size that the backbone cannot keep.
    """
    size = given_or(size, own_size(backbone, motion))
    backbone.spec.compression.check_motion(size)
    match motion:
        case BankEntry(metadata=metadata):
            return Injected(
                entry_control(backbone, motion, how, size),
                size,
                metadata.steps,
                metadata.guidance_scale,
                cast(GuidanceKind, metadata.guidance),
                metadata.negative_prompt,
            )
        case FieldEntry():
            motion = motion.field
    check_field(backbone, how.injection_blocks)
    advice = recommended(backbone.spec)
    instant = Instant(
        window_of(backbone, how),
        given_or(how.noise_share, advice.instant_noise_share),
        how.placement("conditional"),
    )
    control = instant.control(backbone, size, [changed(motion, how.change or "", how.regions)])
    told = advice.steps, advice.guidance_scale, None, advice.negative_prompt
    return Injected(control, size, *told)


def check_entry(
    backbone: Model,
    entry: AnyEntry,
    how: Injection = Injection(),  # noqa: B008  a value that nobody changes
    steps: int | None = None,
    size: VideoSize | None = None,
) -> None:
    """Raise EntryError unless an entry fits a backbone, and ValueError for a change, and for a
    window that does not fit the steps; None are those recommended.

    A motion field fits every backbone that has positions. An optimised entry fits where backbone,
    grid and tensors are those that it was optimised with; its positions can be changed, and fit any
    `size`, unless they are free tables. Either must hold what the injection blocks are to take
    their keys and values from.
    """
    if isinstance(entry, FieldEntry):
        changed(entry.field, how.change or "", how.regions)
        check_field(backbone, how.injection_blocks)
        schedule = backbone.schedule(given_or(steps, recommended(backbone.spec).steps))
        GuidanceWindow.of(window_of(backbone, how), schedule)
    else:
        entry_control(backbone, entry, how, size)


def own_size(backbone: Model, motion: AnyEntry | MotionField) -> VideoSize:
    """The size of a motion's videos where none is asked for: that of an optimised entry, or the
    backbone's.
    """
    return VideoSize(*motion.metadata.size) if isinstance(motion, BankEntry) else backbone.spec.size


def window_of(backbone: Model, how: Injection) -> Window:
    """The window in which tokens follow a motion field."""
    return recommended(backbone.spec).instant_window if how.window is None else how.window


def check_field(backbone: Model, injection_blocks: Sequence[int] = ()) -> None:
    """Raise EntryError where a motion field cannot move a backbone."""
    if backbone.spec.position not in ("rotary", "sinusoidal"):
        raise EntryError(
            f"a motion field moves tokens by their positions, and those of {backbone.spec.name!r} "
            f"are {backbone.spec.position}. Use a backbone with rotary or sinusoidal ones."
        )
    if injection_blocks:
        raise EntryError(
            "a motion field holds no reference latents for key and value injection. Leave "
            "injection_blocks out, or optimise the clip and keep them."
        )
