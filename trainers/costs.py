"""What a run will cost before it is begun: memory and time. Estimates, in the units of a transformer's forward pass."""

# n tokens of text and video, E hidden dim

from __future__ import annotations

import time

import torch

from ditflow.backbones import Backbone, sketch_backbone
from ditflow.grid import VideoSize
from ditflow.guidance import Guidance

KEPT = 13  # tensors (n, E) that a block keeps for its backward pass; counted on the embedded backbones: 12.5 to 12.7, in float32 as in 16 bits
ROTATED = 4  # and in float32 those that rotary positions are multiplied with, where these are optimised: query and key, and both turned
PROBED = 5e11  # operations at most of the pass that measures a device


def operations(backbone: Backbone, size: VideoSize, blocks: int) -> float:
    """Multiplications and additions of one forward pass of one sample: of each token with 12 E^2 weights, and attention."""
    tokens, hidden = _tokens(backbone, size), backbone.spec.hidden
    return blocks * (24.0 * tokens * hidden**2 + 4.0 * tokens**2 * hidden)


def memory(backbone: Backbone, size: VideoSize, batch_size: int, guidance: Guidance | None) -> float:
    """Bytes at the peak of an update: the weights, what blocks keep for the backward pass until the signal has been read, and one block at work.

    Under checkpointing a block keeps its input only. Without guidance there is no backward pass.
    """
    signal = guidance.signal if guidance is not None else None
    depth = 1 + max((*signal.capture, *signal.features)) if signal is not None else 0
    width = backbone.dtype.itemsize
    block = width * KEPT + (torch.float32.itemsize * ROTATED if guidance is not None and guidance.kind.needs == "rotary" else 0)
    kept = block + depth * (width if guidance is not None and guidance.checkpointing else block)
    return width * backbone.weights + float(batch_size) * kept * _tokens(backbone, size) * backbone.spec.hidden


@torch.no_grad()
def seconds_of_a_forward(name: str, size: VideoSize, device: torch.device, dtype: torch.dtype) -> float:
    """Of one sample through the whole transformer, from one block of it with random weights on this device; on smaller videos where that takes long."""
    probe = sketch_backbone(name, device=device, dtype=dtype, blocks=1)
    small = _within(probe, size)
    latents = torch.randn(1, *probe.spec.compression.latent_shape(small), device=device)
    text = torch.randn(1, probe.spec.text_tokens, probe.spec.text_channels, device=device)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        output = probe.predict(latents, 500, text)
        assert output is not None and output.sum().isfinite()  # waits for the device
        times.append(time.perf_counter() - began)
    return min(times) * operations(probe, size, probe.spec.blocks) / operations(probe, small, 1)


def _within(probe: Backbone, size: VideoSize) -> VideoSize:
    """A video of fewer frames, of which one block takes no more than `PROBED` operations, if there is one."""
    frames = size.frames
    while operations(probe, VideoSize(frames, size.height, size.width), 1) > PROBED and frames > 1:
        frames = max(1, frames - probe.spec.compression.time)
    return VideoSize(frames, size.height, size.width)


def _tokens(backbone: Backbone, size: VideoSize) -> int:
    return backbone.spec.text_tokens + backbone.spec.compression.grid(size).tokens
