"""Attention between video tokens as the signals read it: queries and keys of one block, softmax and
scores of their own, never all N x N of them at once.

Scores are averaged over heads after the product, as the published codes do; that is one product of
concatenated heads. They are float32 whatever the model's dtype, and recomputed in backward, a few
frame pairs at a time.
"""

# B batch, F latent frames, f some of them, S = H*W tokens per frame, N = F*S video tokens, A heads,
# D head dim

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ditflow.core.sizes import TokenGrid

# Scores that exist at a time for each clip, unless one frame pair already needs more.
PAIRWISE = 2**24

# From scores (B, f, S, S) of a frame's queries with the keys of f frames, and what is `given` for
# them, to (B, f, S, ...).
Read = Callable[..., Tensor]

PAIRS = ("all", "neighbours", "anchors")
TYPES = ("float32", "bfloat16")  # of float16, gradients would be too small


@dataclass(frozen=True)
class Scan:
    """Which scores are read, and how exactly. By default it is all of them, in float32.

    Attributes:
        pairs: all frames with all, a frame with its neighbours, or neighbours and each frame with
            the first one (anchors).
        window: how many tokens to each side, in rows and in columns, a token looks; None is all.
        dtype: of queries, keys and products, one of `TYPES`. In float32, float64 stays.
    """

    pairs: str = "all"
    window: int | None = None
    dtype: str = "float32"

    def compared(self, frames: int) -> Tensor:
        """bool (F, F): the frame pairs that are read."""
        time = torch.arange(frames)
        apart = (time[:, None] - time).abs()
        read = apart.eq(1) if self.pairs != "all" else apart.ge(0)
        if self.pairs == "anchors":
            read[0, 1:] = read[1:, 0] = True
        return read

    def strips(
        self, grid: TokenGrid, device: torch.device
    ) -> Iterator[tuple[slice, slice, Tensor | None]]:
        """Tokens of a frame, the tokens of another frame that they look at, and where (., 1, .) on
        the device these are too far away: whole rows at a time.
        """
        wide, far = grid.width, self.window
        if far is None:
            whole = slice(0, grid.tokens_per_frame)
            yield whole, whole, None
            return
        places = grid.coordinates(device)
        for row in range(0, grid.height, far):
            ours = slice(row * wide, min(row + far, grid.height) * wide)
            theirs = slice(max(row - far, 0) * wide, min(row + 2 * far, grid.height) * wide)
            apart = (places[ours, None] - places[None, theirs]).abs()
            yield ours, theirs, (apart.amax(dim=-1) > far)[:, None]

    def stored(self, x: Tensor) -> Tensor:
        """Queries or keys in the type of the scan."""
        return single(x) if self.dtype == "float32" else x.to(getattr(torch, self.dtype))


def across_frames(
    query: Tensor, key: Tensor, grid: TokenGrid, read: Read, *given: Tensor
) -> Tensor:
    """What `read` makes of the scores of each frame with each, (B, F, F, S, ...), from queries and
    keys (B, N, A, D). `given` are (B, F, F, S, ...).
    """
    keys = by_frame(key, grid)
    return torch.stack(
        [
            _row(frame, keys, read, [known[:, i] for known in given])
            for i, frame in enumerate(_scaled(query, grid).unbind(1))
        ],
        dim=1,
    )


def within_frames(
    query: Tensor, key: Tensor, grid: TokenGrid, read: Read, *given: Tensor
) -> Tensor:
    """What `read` makes of the scores of each frame with itself, (B, F, S, ...). `given` are (B, F,
    S, ...).
    """
    pairs = zip(_scaled(query, grid).unbind(1), by_frame(key, grid).split(1, dim=1), strict=True)
    return torch.cat(
        [
            _row(frame, own, read, [known[:, i : i + 1] for known in given])
            for i, (frame, own) in enumerate(pairs)
        ],
        dim=1,
    )


def across_time(query: Tensor, key: Tensor, grid: TokenGrid) -> Tensor:
    """Scores of each token with the tokens at its own place in all frames, by head: (B, A, S, F, F)
    from queries and keys (B, N, A, D).
    """
    ours, theirs = (
        single(x).unflatten(1, (grid.frames, -1)) for x in (query, key)
    )  # (B, F, S, A, D)
    scores: Tensor = torch.einsum("bisad,bjsad->basij", ours, theirs) / query.shape[-1] ** 0.5
    return scores


def single(x: Tensor) -> Tensor:
    """In float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def by_frame(x: Tensor, grid: TokenGrid) -> Tensor:
    """(B, N, A, D) with heads concatenated, (B, F, S, A*D)."""
    frames: Tensor = single(x).flatten(2).unflatten(1, (grid.frames, -1))
    return frames


def _scaled(query: Tensor, grid: TokenGrid) -> Tensor:
    """So that the product with concatenated keys is the mean of all heads' scores."""
    heads, head_dim = query.shape[-2:]
    scale: float = heads * head_dim**0.5
    return by_frame(query, grid) / scale


def _row(query: Tensor, keys: Tensor, read: Read, given: Sequence[Tensor]) -> Tensor:
    """(B, f, S, ...) of a frame (B, S, A*D) with f frames (B, f, S, A*D); `given` are (B, f, S,
    ...).
    """
    few = max(1, PAIRWISE // keys.shape[2] ** 2)
    parts = zip(*(x.split(few, dim=1) for x in (keys, *given)), strict=True)
    return torch.cat(
        [
            checkpoint(_scan, query, read, *part, use_reentrant=False, preserve_rng_state=False)
            for part in parts
        ],
        dim=1,
    )


def _scan(query: Tensor, read: Read, keys: Tensor, *given: Tensor) -> Tensor:
    scores = (query @ keys.flatten(1, 2).mT).unflatten(-1, (-1, keys.shape[2]))  # (B, S, f, S)
    return read(scores.transpose(1, 2), *given)
