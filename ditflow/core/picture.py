"""What an image-to-video model is shown of a picture, beside latents and text."""

# b: 1 or B, F latent frames, P channels, Hl Wl latent rows and columns, V tokens, E their channels

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Picture(NamedTuple):
    """A picture as a model's encoders see it.

    `latents` (b, F, P, Hl, Wl) stand beside those that are denoised, and are never optimised.
    `tokens` (b, V, E) stand beside those of the text, for a model that takes them.
    """

    latents: Tensor
    tokens: Tensor | None = None

    @classmethod
    def first_frame(cls, latents: Tensor, tokens: Tensor | None, masks: int) -> Picture:
        """Of the latents (b, F, C, Hl, Wl) of a video whose first frame is known: with so many
        channels before them that are 1 there, and 0 elsewhere.
        """
        known = torch.arange(latents.shape[1], device=latents.device).eq(0).to(latents)
        mask = known.view(-1, 1, 1, 1).expand_as(latents[:, :, :1]).expand(-1, -1, masks, -1, -1)
        return cls(torch.cat([mask, latents], dim=2), tokens)

    @classmethod
    def blank(cls, latents: Tensor, channels: int, tokens: tuple[int, int] | None) -> Picture:
        """Zeros beside latents (b, F, C, Hl, Wl), and so many tokens (V, E)."""
        batch, frames, _, *sides = latents.shape
        beside = latents.new_zeros(batch, frames, channels, *sides)
        return cls(beside, None if tokens is None else latents.new_zeros(batch, *tokens))

    def beside(
        self, latents: Tensor, text: Tensor, length: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Latents (B, F, C, Hl, Wl) with the picture's after them, the text (b, L, E), and tokens.

        Beside tokens the text has the `length` of the training, with zeros after it: transformers
        tell both apart by their number.
        """
        count = len(latents)
        latents = torch.cat([latents, self.latents.expand(count, -1, -1, -1, -1)], dim=2)
        if self.tokens is None:
            return latents, text, None
        text = functional.pad(text, (0, 0, 0, length - text.shape[1]))
        return latents, text, self.tokens.to(text).expand(count, -1, -1)

    @classmethod
    def stacked(cls, pictures: Sequence[Picture | None]) -> Picture | None:
        """The pictures of a batch, one after the other; None for a model that takes none."""
        latents = [picture.latents for picture in pictures if picture is not None]
        tokens = [picture.tokens for picture in pictures if picture is not None]
        if not latents:
            return None
        assert len(latents) == len(pictures), "each clip of a batch has a picture, or none has"
        known = [own for own in tokens if own is not None]
        return cls(torch.cat(latents), torch.cat(known) if known else None)

    def repeated(self, copies: int) -> Picture:
        """Those of so many copies of a batch, one after the other; one for all stays one."""
        if len(self.latents) == 1:
            return self
        return self._changed(lambda x: torch.cat([x] * copies))

    def to(self, device: torch.device) -> Picture:
        return self._changed(lambda x: x.to(device))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Picture:
        return Picture(change(self.latents), None if self.tokens is None else change(self.tokens))
