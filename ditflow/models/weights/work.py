"""What an update of the motion keeps besides the weights, in bytes: counted by what a block keeps.

All follows from the sizes of the model and of the video.
"""

# N video tokens, S tokens per frame, E hidden dim

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from ditflow.core.sizes import VideoSize
from ditflow.models.spec import Kept, ModelSpec

SINGLE = torch.float32.itemsize
# tensors (N, E) in float32 that a block keeps besides, where rotary positions are optimised: what
# these are multiplied with, query and key, and both turned
ROTATED = 4
# tensors (N, E) in float32 at work in a loss: queries and keys, the gradients of both, and what
# these become on their way back
READ = 6
# numbers in float32 at work in a loss: three for each score of the frame pairs that are looked at
# together, which are 2^24 scores a clip, or a single pair if that has more
SCORES = 3 * 2**24


@dataclass(frozen=True)
class Work:
    """What a model is loaded for.

    Attributes:
        size: of the videos.
        batch_size: how many there are at a time.
        depth: the blocks that an update runs through; 0 where nothing is optimised.
        rotary: whether rotary positions are optimised.
        checkpointing: whether activations are computed again; None leaves it to the plan.
    """

    size: VideoSize
    batch_size: int = 1
    depth: int = 0
    rotary: bool = False
    checkpointing: bool | None = None


@dataclass(frozen=True)
class Activations:
    """Bytes for all videos of a batch: what a `block` needs for its backward pass, its input, which
    is what it keeps under checkpointing, and what is at work in the `loss`.
    """

    depth: int
    block: int
    given: int
    loss: int

    @classmethod
    def of(cls, spec: ModelSpec, kept: Kept, dtype: torch.dtype, work: Work) -> Self:
        """Of a model with so much `kept` in a block."""
        grid, text, width = spec.compression.grid(work.size), spec.text_tokens, dtype.itemsize
        wide = SINGLE * (kept.wide + (ROTATED if work.rotary else 0))
        block = grid.tokens * (width * kept.own + wide) + text * width * kept.text
        scores = min(max(SCORES, 3 * grid.tokens_per_frame**2), 3 * grid.tokens**2)
        loss = SINGLE * (READ * grid.tokens * spec.hidden + scores) if work.depth else 0
        given = width * (grid.tokens + text)
        each = (spec.hidden * block, spec.hidden * given, loss)
        return cls(work.depth, *(work.batch_size * count for count in each))

    def peak(self, *, checkpointing: bool) -> int:
        """What waits for the backward pass, and a block or the loss at work."""
        return self.depth * (self.given if checkpointing else self.block) + max(
            self.block, self.loss
        )
