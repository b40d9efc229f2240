"""What a run brings into the bank: entries with their provenance."""

# K inner steps, B batch, G guided steps

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import torch

from ditflow import __version__
from ditflow.bank import BankEntry, EntryMetadata
from ditflow.core.sizes import VideoSize
from ditflow.sampling.recipe import Recipe
from ditflow.sampling.state import State


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
