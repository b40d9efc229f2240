"""Does an entry fit a backbone, and how does it act there?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch

from ditflow.bank import BankEntry, EntryError, FieldEntry
from ditflow.bank.kinds import AnyEntry
from ditflow.core.noise import CLEAN
from ditflow.core.schedule import (
    GuidanceKind,
    GuidanceWindow,
    Scale,
    Window,
    check_window,
)
from ditflow.core.sizes import VideoSize
from ditflow.fields.changes import changed, check_changes
from ditflow.fields.field import MotionField
from ditflow.fields.noise import check_share
from ditflow.models import Model, ModelError
from ditflow.models.presets import recommended
from ditflow.models.spec import Lora
from ditflow.models.weights.lora import warn_of_others
from ditflow.sampling.control import Control, Controls, GuidedSteps
from ditflow.sampling.inject import Inject, Instant
from ditflow.sampling.key_value import ReferenceKeyValue, check_kept
from ditflow.sampling.placement import Passes, Placement
from ditflow.sampling.recipe import given_or
from ditflow.sampling.variables import VARIABLES

OF_FIELDS = ("window", "noise_share", "change")  # options of an Injection


@dataclass(frozen=True, kw_only=True)
class Injection:
    """How an entry acts on a generation. None is what the entry or the model recommends.

    `strength` 1 is the motion as it is, 0 none of it. `passes` and `motion_scale` are those of
    `Placement`. Blocks of `injection_blocks` have keys and values of the entry's reference latents.
    For fields alone, `window` says in which steps tokens follow one, `noise_share` how much of the
    initial noise does, and `change` what is made of it before (see `ditflow.fields.changes`).
    """

    strength: float = 1.0
    passes: Passes | None = None
    motion_scale: float | None = None
    injection_blocks: Sequence[int] = ()
    window: Window | None = None
    noise_share: float | None = None
    change: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what makes no sense on any model."""
        self.placement("conditional")
        check_share(self.noise_share or 0.0)
        check_window(1.0 if self.window is None else self.window)
        check_changes(self.change or "")

    def of(self, entry: AnyEntry) -> Injection:
        """The same for an entry, which has a window and noise of its own if it was optimised."""
        optimised = isinstance(entry, BankEntry)
        return replace(self, window=None, noise_share=None) if optimised else self

    def placement(self, passes: str) -> Placement:
        """Where positions act; `passes` are recommended."""
        chosen = cast(Passes, passes if self.passes is None else self.passes)
        if self.passes is None and self.motion_scale is not None:
            chosen = "conditional"
        return Placement(chosen, self.strength, self.motion_scale)


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

    `size` None is the entry's, or for a field the backbone's own. Raises EntryError as
    `check_entry` does, and for an optimised entry of another size, and ValueError for a size that
    the backbone cannot keep.
    """
    match motion:
        case BankEntry(metadata=metadata):
            own = VideoSize(*metadata.size)
            if size not in (None, own):
                raise EntryError(
                    f"the entry of {metadata.clip!r:.80} was optimised for {own} pixels, not for "
                    f"{size}. Leave size out, or use a motion field, which fits any size."
                )
            return Injected(
                entry_control(backbone, motion, how),
                own,
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
    size = given_or(size, backbone.spec.size)
    backbone.spec.compression.check_motion(size)
    control = instant.control(backbone, size, [changed(motion, how.change or "")])
    told = advice.steps, advice.guidance_scale, None, advice.negative_prompt
    return Injected(control, size, *told)


def check_entry(
    backbone: Model, entry: AnyEntry, how: Injection = Injection(), steps: int | None = None
) -> None:
    """Raise EntryError unless an entry fits a backbone, and ValueError for a window that does not
    fit the steps; None are those recommended.

    A motion field fits every backbone that has positions. An optimised entry fits where backbone,
    grid and tensors are those that it was optimised with. Either must hold what the
    injection blocks are to take their keys and values from.
    """
    if isinstance(entry, FieldEntry):
        check_field(backbone, how.injection_blocks)
        schedule = backbone.schedule(given_or(steps, recommended(backbone.spec).steps))
        GuidanceWindow.of(window_of(backbone, how), schedule)
    else:
        entry_control(backbone, entry, how)


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


def guided_steps(
    backbone: Model, entry: BankEntry, injection_blocks: Sequence[int] = ()
) -> GuidedSteps:
    """The steps that an entry was optimised at. Raises EntryError as `check_entry` does."""
    metadata, spec = entry.metadata, backbone.spec
    if not spec.knows(metadata.backbone_fingerprint):
        raise EntryError(
            f"the entry was optimised on {metadata.backbone!r}, not on {spec.name!r}. Load that "
            f"backbone, or optimise {metadata.clip!r} on this one."
        )
    warn_of_others(metadata.clip, [Lora(**one) for one in metadata.loras], spec.loras)
    if metadata.variable not in VARIABLES:
        known = ", ".join(VARIABLES)
        raise EntryError(
            f"the entry holds {metadata.variable!r:.80}, which this version of ditflow does not "
            f"know: it knows {known}. Update ditflow."
        )
    VARIABLES[metadata.variable].check(backbone)
    grid = spec.compression.grid(VideoSize(*metadata.size))
    if metadata.grid != (grid.frames, grid.height, grid.width):
        raise EntryError(
            f"the entry has {metadata.grid} tokens, but {metadata.size} pixels are {grid} tokens "
            f"on {spec.name!r}. Optimise its clip again."
        )
    _check_shapes(backbone, entry)
    if injection_blocks and entry.reference_latents is None:
        lacks = f"the entry of {metadata.clip!r} holds no reference latents"
        raise EntryError(f"{lacks} for key and value injection. Optimise it again and keep them.")
    check_kept(backbone, injection_blocks)
    schedule, window = backbone.schedule(metadata.steps), GuidanceWindow(*metadata.window)
    if schedule.timesteps[window.start : window.stop] == metadata.timesteps:
        return GuidedSteps(schedule, window)
    try:  # of another scheduler, which has the same noise at other timesteps
        levels = tuple(map(backbone.level, metadata.timesteps))
    except ModelError as error:
        raise EntryError(f"the entry of {metadata.clip!r:.80} does not fit: {error}") from error
    before = schedule.levels[window.start - 1] if window.start else None
    around = before, (*schedule.levels, CLEAN)[window.stop]
    return GuidedSteps.of_levels(metadata.timesteps, levels, *around)


def entry_control(
    backbone: Model,
    entry: BankEntry,
    how: Injection = Injection(),
) -> Control:
    """What puts an optimised entry's motion into a generation, on any schedule of its backbone.

    Raises EntryError as `check_entry` does, and for options of motion fields.
    """
    guided = guided_steps(backbone, entry, how.injection_blocks)
    if given := [name for name in OF_FIELDS if getattr(how, name) is not None]:
        raise EntryError(
            f"{given[0]} is for motion fields, and the entry of {entry.metadata.clip!r:.80} was "
            f"optimised: leave {given[0]} out."
        )
    placement = how.placement(entry.metadata.passes)
    inject = Inject(VARIABLES[entry.metadata.variable], entry.parameters, guided, placement)
    if entry.reference_latents is None:
        return inject
    reference, blocks = entry.reference_latents[None], tuple(how.injection_blocks)
    return Controls((ReferenceKeyValue(reference, blocks, guided), inject))


def _check_shapes(backbone: Model, entry: BankEntry) -> None:
    """Raise EntryError unless an entry's tensors are as large as the backbone's."""
    metadata, size = entry.metadata, VideoSize(*entry.metadata.size)
    latents = torch.empty(1, *backbone.spec.compression.latent_shape(size), device="meta")
    parameter = VARIABLES[metadata.variable].initial(backbone, latents)[0]
    pairs = {
        metadata.variable: (entry.parameters[0], parameter),
        "reference latents": (entry.reference_latents, latents[0]),
    }
    for name, (have, want) in pairs.items():
        if have is not None and have.shape != want.shape:
            theirs = f"those of {backbone.spec.name!r} have {tuple(want.shape)}"
            shapes = f"{name} of shape {tuple(have.shape)}, and {theirs}"
            raise EntryError(
                f"the entry of {metadata.clip!r:.80} has {shapes}: it is damaged, or was not made "
                "by ditflow. Optimise its clip again."
            )
