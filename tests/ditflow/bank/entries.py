"""Small entries to fill banks with."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch

from ditflow.bank import BankEntry, EntryMetadata, FieldEntry, FieldMetadata

SHAPES = {
    "latents": (2, 4, 6, 8),
    "rotary_tables": (2, 2, 24, 8),
    "rotary_positions": (2, 24, 3),
    "sinusoidal": (24, 16),
}


CLIP: dict[str, Any] = {
    "prompt": "a red kite, ½ as high as the clouds",
    "negative_prompt": "",
    "seed": 7,
    "clip": "kite.mp4",
    "clip_sha256": "01" * 32,
    "start": 0,
    "stride": 1,
    "date": "2026-01-31T12:00:00+00:00",
    "tags": ("pan",),
}


def make_metadata(**changes: Any) -> EntryMetadata:
    return EntryMetadata(
        **CLIP
        | {
            "ditflow": "0.1.0",
            "backbone": "tiny-rope",
            "backbone_fingerprint": "ab" * 32,
            "grid": (2, 3, 4),
            "size": (9, 24, 32),
            "window": (1, 4),
            "timesteps": (900, 800, 700),
            "steps": 10,
            "scheduler": "CogVideoXDDIMScheduler",
            "guidance_scale": 7.0,
            "guidance": "constant",
            "signal": {"name": "amf", "block": 3, "temperature": 2.0, "threshold": True},
            "variable": "rotary_positions",
            "learning_rate": (0.04, 0.02),
            "inner_steps": 2,
            "injection_blocks": (0,),
            "dtype": "float32",
            "losses": ((0.9, 0.8), (0.5, 0.4), (0.3, 0.25)),
            "seconds": 12.5,
        }
        | changes
    )


def make_entry(
    seed: int = 0, *, variable: str = "rotary_positions", latents: bool = False, **changes: Any
) -> BankEntry:
    generator = torch.Generator().manual_seed(seed)
    metadata = make_metadata(variable=variable, seed=seed, **changes)
    parameters = torch.randn(len(metadata.timesteps), *SHAPES[variable], generator=generator)
    return BankEntry(
        metadata, parameters, torch.randn(2, 4, 6, 8, generator=generator) if latents else None
    )


def make_field_metadata(**changes: Any) -> FieldMetadata:
    return FieldMetadata(
        **CLIP
        | {
            "ditflow": "0.2.0",
            "size": (9, 24, 32),
            "method": "dis",
            "times": (0.0, 2.0, 6.0),
            "words": "pans left slowly",
            "seconds": 0.5,
        }
        | changes
    )


def make_field_entry(seed: int = 0, **changes: Any) -> FieldEntry:
    generator = torch.Generator().manual_seed(seed)
    displacement = torch.randn(3, 2, 4, 5, generator=generator)
    confidence = torch.rand(3, 4, 5, generator=generator)
    metadata = make_field_metadata(**{"seed": seed} | changes)
    return FieldEntry(metadata, displacement.half(), confidence.half())


AnyEntry = TypeVar("AnyEntry", BankEntry, FieldEntry)


def replaced(entry: AnyEntry, **changes: Any) -> AnyEntry:
    return dataclasses.replace(entry, metadata=dataclasses.replace(entry.metadata, **changes))


def assert_same(one: AnyEntry, other: AnyEntry) -> None:
    assert one.metadata == other.metadata
    assert one.content_hash == other.content_hash
    for mine, theirs in zip(one.tensors().items(), other.tensors().items(), strict=True):
        assert mine[0] == theirs[0] and torch.equal(mine[1], theirs[1])
