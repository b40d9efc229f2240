"""`--dry_run --measure`: how long a forward pass takes on this device, by one of its blocks.

The block has random weights. It sees a tiny video first and then larger ones, until it has seen one
of the size asked for, or until the next would take too long.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from tqdm import tqdm

from ditflow.core.sizes import VideoSize
from ditflow.models import Model, sketch_backbone
from trainers.motion import cores
from trainers.motion.costs import operations

PATIENCE = 60.0  # seconds that all passes together may take
PASSES, ENOUGH = 3, 1.0  # of each video, and seconds after which one is not seen again


@dataclass(frozen=True)
class Measured:
    """`seconds` of one sample of the size asked for through the whole transformer.

    `seen` is the largest video that went through one block. From there to the size asked for and to
    all blocks, seconds grow as operations do.
    """

    seconds: float
    seen: VideoSize


@torch.no_grad()
def measure_forward(backbone: Model, size: VideoSize, device: torch.device) -> Measured:
    """Time one block of a backbone on a device, with a progress bar."""
    probe = sketch_backbone(backbone.spec.name, device=device, dtype=backbone.dtype, blocks=1)
    cores.settle(probe)  # as `fit` does
    end, seen, pace = time.monotonic() + PATIENCE, size, 0.0  # seconds an operation
    for video in tqdm(_growing(probe, size), desc="Measuring", unit="video", leave=False):
        work = operations(probe, video, 1)
        if pace > 0 and time.monotonic() + pace * work > end:
            break
        seen, pace = video, _seconds(probe, video) / work
    return Measured(pace * operations(backbone, size, backbone.spec.blocks), seen)


def _growing(probe: Model, size: VideoSize) -> list[VideoSize]:
    """Videos from one token to the size asked for, each of two to four times the one before."""
    sizes = [size]
    while (smaller := _smaller(probe, sizes[-1])) != sizes[-1]:
        sizes.append(smaller)
    return sizes[::-1]


def _smaller(probe: Model, size: VideoSize) -> VideoSize:
    compression = probe.spec.compression
    if size.frames > compression.time:
        return replace(size, frames=size.frames // 2)
    token = compression.space * compression.patch  # pixels
    height, width = (max(token, side // 2 // token * token) for side in (size.height, size.width))
    return replace(size, height=height, width=width)


def _seconds(probe: Model, size: VideoSize) -> float:
    """Of the fastest pass."""
    spec, device = probe.spec, probe.device
    latents = torch.randn(1, *spec.compression.latent_shape(size), device=device)
    text = torch.randn(1, spec.text_tokens, spec.text_channels, device=device)
    times: list[float] = []
    while len(times) < PASSES and sum(times) < ENOUGH:
        began = time.perf_counter()
        output = probe.predict(latents, 500, text)
        assert output is not None and output.sum().isfinite()  # waits for the device
        times.append(time.perf_counter() - began)
    return min(times)
