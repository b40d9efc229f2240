"""Does an optimised entry fit a backbone, and how does it act there?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ditflow.bank import BankEntry, EntryError
from ditflow.compatibility.injection import Injection
from ditflow.core.noise import CLEAN
from ditflow.core.schedule import GuidanceWindow
from ditflow.core.sizes import VideoSize
from ditflow.fields.changes import changed_offsets, parsed
from ditflow.fields.field import FieldError
from ditflow.fields.offsets import Offsets
from ditflow.models import Model, ModelError
from ditflow.models.spec import Lora
from ditflow.models.weights.lora import warn_of_others
from ditflow.sampling.control import Control, Controls, GuidedSteps
from ditflow.sampling.inject import Inject
from ditflow.sampling.key_value import ReferenceKeyValue, check_kept
from ditflow.sampling.variables import VARIABLES

OF_FIELDS = ("window", "noise_share")  # options of an Injection


def guided_steps(
    backbone: Model, entry: BankEntry, injection_blocks: Sequence[int] = ()
) -> GuidedSteps:
    """The steps that an entry was optimised at. Raises EntryError as `check_entry` does."""
    metadata, spec = entry.metadata, backbone.spec
    if not spec.knows(metadata.backbone_fingerprint):
        motion = "" if entry.displacement is None else ", or give it the motion alone: entry.field"
        raise EntryError(
            f"the entry was optimised on {metadata.backbone!r}, not on {spec.name!r}. Load that "
            f"backbone, or optimise {metadata.clip!r} on this one{motion}."
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
    how: Injection = Injection(),  # noqa: B008  a value that nobody changes
    size: VideoSize | None = None,
) -> Control:
    """What puts an optimised entry's motion into a generation, on any schedule of its backbone.

    `size` None is the entry's own. For another one, and for a change, positions are taken as a
    field of offsets (see `ditflow.fields.offsets`). Raises EntryError as `check_entry` does, and
    for options of motion fields.
    """
    guided = guided_steps(backbone, entry, how.injection_blocks)
    if given := [name for name in OF_FIELDS if getattr(how, name) is not None]:
        raise EntryError(
            f"{given[0]} is for motion fields, and the entry of {entry.metadata.clip!r:.80} was "
            f"optimised: leave {given[0]} out."
        )
    placement = how.placement(entry.metadata.passes)
    parameters = _parameters(backbone, entry, how, size or VideoSize(*entry.metadata.size))
    inject = Inject(VARIABLES[entry.metadata.variable], parameters, guided, placement)
    if entry.reference_latents is None or not how.injection_blocks:
        return inject
    reference, blocks = entry.reference_latents[None], tuple(how.injection_blocks)
    return Controls((ReferenceKeyValue(reference, blocks, guided), inject))


def _parameters(backbone: Model, entry: BankEntry, how: Injection, size: VideoSize) -> Tensor:
    """An entry's parameters (G, ...) for videos of a size, after the changes. Raises EntryError for
    those that are no field.
    """
    own, words = VideoSize(*entry.metadata.size), how.change or ""
    if size == own and not parsed(words):
        return entry.parameters
    asked = f"change {words!r:.80}" if size == own else f"size {size}"
    told = f"the entry of {entry.metadata.clip!r:.80} was optimised for {own} pixels"
    if fixed := VARIABLES[entry.metadata.variable].fixed:
        raise EntryError(
            f"{told} and holds {entry.metadata.variable}, {fixed}: leave {asked} out, optimise "
            "rotary_positions, or use a motion field, which takes any size and change."
        )
    if how.injection_blocks:
        raise EntryError(
            f"{told}, and so were the keys and values that injection_blocks take: leave them out, "
            f"or leave {asked} out."
        )
    compression = backbone.spec.compression
    stock, wanted = (backbone.positions(compression.grid(one)) for one in (own, size))
    offsets = Offsets.of(entry.parameters.to(stock), stock, compression, own)
    try:
        offsets = changed_offsets(offsets, words, how.regions)
    except FieldError as error:
        raise EntryError(
            f"the entry of {entry.metadata.clip!r:.80} cannot be changed so: {error}"
        ) from error
    return offsets.on(wanted, compression, size)


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
