"""Where a family of transformers keeps what the taps touch."""

# B batch (b: 1 or B), N video tokens, A heads, D head dim, E hidden dim

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from ditflow.core.positions import Side, rotate, tables_of

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """Where a family of transformers keeps what the taps touch.

    `norms` says how the query and key norms see their tokens: (B, A, N, D), (B, N, A, D) or
    (B, N, A*D). With `text_first` these are text and then video, else video alone, and `cross` is
    their attention to text. A rotary table comes from the module `table`, or in the call of the
    transformer; the module `added` adds sinusoidal positions. Latents are (B, C, F, Hl, Wl) with
    `channels_first`, else (B, F, C, Hl, Wl).
    """

    blocks: tuple[str, ...]  # module lists, in the order in which they run
    attention: str
    rotary: str | int  # the attention's argument, by name or by place
    tail: str  # what runs after the last block, on video tokens
    norms: Literal["BAND", "BNAD", "BNE"]
    text_first: bool = False
    channels_first: bool = False
    cross: str | None = None
    table: str | None = None
    added: str = ""

    def all_blocks(self, transformer: nn.Module) -> list[nn.Module]:
        return [
            block for name in self.blocks for block in transformer.get_submodule(name).children()
        ]

    def followers(self, transformer: nn.Module) -> list[nn.Module]:
        """For each block the module that reads its output."""
        return [*self.all_blocks(transformer)[1:], transformer.get_submodule(self.tail)]

    def tokens_of(self, output: Tensor, heads: int) -> Tensor:
        """Tokens (B, ., A, D) of what a query or key norm gives."""
        match self.norms:
            case "BAND":
                return output.transpose(1, 2)
            case "BNE":
                output = output.unflatten(-1, (heads, -1))
        return output

    def as_norms(self, tokens: Tensor) -> Tensor:
        """Tokens (B, ., A, D) as the norms give them."""
        match self.norms:
            case "BAND":
                return tokens.transpose(1, 2)
            case "BNE":
                return tokens.flatten(2)
        return tokens


def rotated(video: Tensor, rotary: Any, side: Side) -> Tensor:
    """Video tokens (B, N, A, D), rotated by a position or by the model's own pair of tables."""
    return rotate(video, *tables_of(rotary, side, video.device))
