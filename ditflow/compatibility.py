"""Between a run and the bank: what guided steps bring into entries, and whether an entry fits a
backbone.
"""

# K inner steps, B batch, G guided steps

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import torch

from ditflow import __version__
from ditflow.bank import BankEntry, EntryError, EntryMetadata
from ditflow.core.schedule import DenoisingSchedule, GuidanceWindow
from ditflow.core.sizes import VideoSize
from ditflow.models import Model
from ditflow.sampling.control import Control, Controls, GuidedSteps
from ditflow.sampling.inject import Inject
from ditflow.sampling.key_value import ReferenceKeyValue
from ditflow.sampling.recipe import Recipe
from ditflow.sampling.state import State
from ditflow.sampling.variables import VARIABLES


@dataclass(frozen=True)
class Provenance:
    """Provenance of a bank entry: the clip its motion comes from and how its frames were taken, and
    the prompt and seed used to optimise it.

    `fps` 0 means that frames were taken by `stride`; `container` and `reader` are empty where the
    frames were not read from a file.
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


def entries_of(
    recipe: Recipe, size: VideoSize, state: State, sources: Sequence[Provenance], seconds: float
) -> list[BankEntry]:
    """What the guided steps have optimised, an entry for each clip of the batch.

    `seconds` were spent on all of them together.
    """
    assert recipe.guidance.signal is not None, "nothing was optimised"
    grid, window = recipe.backbone.spec.compression.grid(size), recipe.window
    parameters = torch.stack(state.history, dim=1)  # (B, G, ...)
    losses = torch.stack(state.losses, dim=-1)  # (K, B, G)
    common = recipe.provenance | {
        "ditflow": __version__,
        "grid": (grid.frames, grid.height, grid.width),
        "size": (size.frames, size.height, size.width),
        "timesteps": recipe.schedule.timesteps[window.start : window.stop],
        "seconds": seconds / len(sources),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return [
        BankEntry(
            EntryMetadata(losses=tuple(losses[:, row].T.tolist()), **common, **asdict(source)),
            parameters[row].contiguous(),
        )
        for row, source in enumerate(sources)
    ]


def check_entry(
    backbone: Model, entry: BankEntry, injection_blocks: Sequence[int] = ()
) -> DenoisingSchedule:
    """The schedule that an entry was optimised on.

    Raises EntryError unless its backbone, grid, tensors and timesteps are those of this backbone,
    and where it lacks what `injection_blocks` are to take their keys and values from.
    """
    metadata, spec = entry.metadata, backbone.spec
    if metadata.backbone_fingerprint != spec.fingerprint:
        raise EntryError(
            f"the entry was optimised on {metadata.backbone!r}, not on {spec.name!r}. Load that "
            f"backbone, or optimise {metadata.clip!r} on this one."
        )
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
    schedule = backbone.schedule(metadata.steps)
    if schedule.timesteps[slice(*metadata.window)] != metadata.timesteps:
        raise EntryError(
            f"the entry was optimised at timesteps {metadata.timesteps} of a {metadata.scheduler}; "
            f"{spec.scheduler} with {metadata.steps} steps has "
            f"{schedule.timesteps[slice(*metadata.window)]}. Use the backbone with its own "
            "scheduler."
        )
    if injection_blocks and entry.reference_latents is None:
        lacks = f"the entry of {metadata.clip!r} holds no reference latents"
        raise EntryError(f"{lacks} for key and value injection. Optimise it again and keep them.")
    backbone.check_blocks(injection_blocks)
    return schedule


def entry_control(
    backbone: Model,
    entry: BankEntry,
    injection_blocks: Sequence[int] = (),
    strength: float = 1.0,
) -> Control:
    """What puts an entry's motion into a generation, on any schedule of its backbone.

    `injection_blocks` take their keys and values from the entry's reference latents. `strength` 1
    is the motion as it was optimised, 0 none of its positions. Raises EntryError as `check_entry`
    does.
    """
    optimised, metadata = check_entry(backbone, entry, injection_blocks), entry.metadata
    guided = GuidedSteps(optimised, GuidanceWindow(*metadata.window))
    inject = Inject(VARIABLES[metadata.variable], entry.parameters, guided, strength)
    if entry.reference_latents is None:
        return inject
    reference = entry.reference_latents[None]
    return Controls((ReferenceKeyValue(reference, tuple(injection_blocks), guided), inject))


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
