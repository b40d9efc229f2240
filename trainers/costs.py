"""What a run will cost before it is begun: memory and time. Estimates, in the units of a transformer's forward pass."""

# n tokens of text and video, E hidden dim

from __future__ import annotations

import time

import torch

from ditflow.backbones import Backbone, sketch_backbone
from ditflow.grid import VideoSize

KEPT = 13  # tensors (n, E) that a block keeps for its backward pass; counted on the embedded backbones: 12.2
PROBED = 5e11  # operations at most of the pass that measures a device


def operations(backbone: Backbone, size: VideoSize, blocks: int) -> float:
    """Multiplications and additions of one forward pass of one sample: of each token with 12 E^2 weights, and attention."""
    tokens, hidden = _tokens(backbone, size), backbone.spec.hidden
    return blocks * (24.0 * tokens * hidden**2 + 4.0 * tokens**2 * hidden)


def memory(backbone: Backbone, size: VideoSize, batch_size: int, *, depth: int, checkpointing: bool, parameters: int) -> float:
    """Bytes at the peak of an update: so many parameters, what blocks up to `depth` keep for the backward pass, and one block at work.

    Under checkpointing a block keeps its input only.
    """
    width = torch.empty((), dtype=backbone.dtype).element_size()
    kept = depth * (1 if checkpointing else KEPT) + KEPT
    return width * (parameters + float(batch_size) * kept * _tokens(backbone, size) * backbone.spec.hidden)


@torch.no_grad()
def seconds_of_a_forward(name: str, size: VideoSize, device: torch.device, dtype: torch.dtype) -> float:
    """Of one sample through the whole transformer, from one block of it with random weights on this device; on smaller videos where that takes long."""
    probe = sketch_backbone(name, device=device, dtype=dtype, blocks=1)
    small = _within(probe, size)
    latents = torch.randn(1, *probe.spec.compression.latent_shape(small), device=device)
    text = torch.randn(1, probe.spec.text_tokens, probe.transformer.config.text_embed_dim, device=device)
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
