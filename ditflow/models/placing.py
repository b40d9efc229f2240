"""A position that waits for the next forward passes of a transformer.

The transformer stays stock. Its own position is replaced where it enters: as an argument of the
call, as the output of the module that makes a table, or in the patch embedding that adds it to the
tokens.
"""

# b: 1 or B, L text tokens, N video tokens, E hidden dim

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils.torch_utils import unwrap_module
from torch import Tensor

from ditflow.models.taps import Args, Kwargs, Layout
from ditflow.models.taps.hooks import hook


@dataclass
class PositionSlot:
    """The `position` that the next forward passes use; None leaves the transformer its own.

    A rotary position needs taps beside it, which rotate by it.
    """

    position: Tensor | None = None

    def install(self, stack: ExitStack, transformer: Any, layout: Layout, kind: str) -> None:
        """Let a transformer look here until the stack unwinds.

        It may be compiled. `kind` is that of its positions, rotary or sinusoidal.
        """
        inner = unwrap_module(transformer)
        if kind == "sinusoidal":
            self._install_added(stack, inner.get_submodule(layout.added))
        elif layout.table is not None:
            table = inner.get_submodule(layout.table)
            hook(stack, table, after=lambda own: own if self.position is None else self.position)
        else:
            replaced = transformer.register_forward_pre_hook(
                self._argument(layout), with_kwargs=True
            )
            stack.callback(replaced.remove)

    def _argument(self, layout: Layout) -> Any:
        def replace(_: Any, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
            if self.position is None:
                return args, kwargs
            return args, {**kwargs, str(layout.rotary): self.position}

        return replace

    def _install_added(self, stack: ExitStack, embed: Any) -> None:
        """Positions (b, N, E) go to the video tokens, which come after the text."""
        own = bool(embed.use_positional_embeddings)

        def before(args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
            embed.use_positional_embeddings = own and self.position is None
            return args, kwargs

        def after(tokens: Tensor) -> Tensor:
            if self.position is None:
                return tokens
            count = self.position.shape[1]
            text, video = tokens[:, :-count], tokens[:, -count:]
            return torch.cat([text, video + self.position.to(tokens)], dim=1)

        stack.callback(setattr, embed, "use_positional_embeddings", own)
        hook(stack, embed, before=before, after=after)


@contextmanager
def placed_at(
    position: Tensor | None, transformer: Any, layout: Layout, kind: str
) -> Iterator[None]:
    """Use a position in every forward pass inside; None is the transformer's own."""
    with ExitStack() as stack:
        if position is not None:
            PositionSlot(position).install(stack, transformer, layout, kind)
        yield
