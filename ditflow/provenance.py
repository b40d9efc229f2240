"""What a run brings into the bank: entries with their provenance."""

# K inner steps, B batch, G guided steps

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple
from datetime import UTC, datetime
from typing import Any

import torch

from ditflow import __version__
from ditflow.bank import BankEntry, EntryMetadata, Provenance
from ditflow.core.sizes import VideoSize
from ditflow.fields import MotionField, described
from ditflow.sampling.recipe import Recipe
from ditflow.sampling.state import State


def told(source: Provenance, size: VideoSize, seconds: float) -> dict[str, Any]:
    """What the metadata of an entry of any kind say of its clip, and of how it was made."""
    return asdict(source) | {
        "ditflow": __version__,
        "size": astuple(size),
        "seconds": seconds,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def moving(entry: BankEntry, field: MotionField | None) -> BankEntry:
    """The entry with the motion of its clip, by which it is found, where that is known."""
    return entry if field is None else entry.with_motion(field, described(field))


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
        "grid": (grid.frames, grid.height, grid.width),
        "timesteps": recipe.schedule.timesteps[window.start : window.stop],
    }
    clips = [common | told(source, size, seconds / len(sources)) for source in sources]
    return [
        BankEntry(
            EntryMetadata(losses=tuple(losses[:, row].T.tolist()), **clip),
            parameters[row].contiguous(),
        )
        for row, clip in enumerate(clips)
    ]
