"""What a forward pass shows of its video tokens: all that a motion signal may read."""

# B batch (b: 1 or B), L text tokens, N video tokens, A heads, D head dim, E hidden dim

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

KeyValue = Mapping[
    int, tuple[Tensor, Tensor]
]  # block -> key and value of the video tokens, (b, N, A, D)


@dataclass
class Recording:
    """What the last forward pass left, by block: query and key after norm and rotation, value (B,
    N, A, D); features after the block (B, N, E).

    All of them are of video tokens, but for `text_key` (B, L, A, D). `text_query` is what video
    tokens look at text with: their `query`, where one attention is for both.
    """

    query: dict[int, Tensor] = field(default_factory=dict)
    key: dict[int, Tensor] = field(default_factory=dict)
    value: dict[int, Tensor] = field(default_factory=dict)
    text_query: dict[int, Tensor] = field(default_factory=dict)
    text_key: dict[int, Tensor] = field(default_factory=dict)
    features: dict[int, Tensor] = field(default_factory=dict)
    live: bool = False  # a forward pass is running; recomputation in backward is not one

    def begin(self, *_: Any) -> None:
        text = self.text_query, self.text_key
        for tensors in (self.query, self.key, self.value, *text, self.features):
            tensors.clear()
        self.live = True

    def end(self, *_: Any) -> None:
        self.live = False
