"""What a model is shown of the picture that a video begins with."""

# b: 1 or B, F latent frames, C channels, P channels of the picture, Hl Wl latent rows and columns,
# V tokens, E their channels

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.core.noise import NoiseLevel, Prediction, leading

Use = Literal["none", "optional", "required"]
"""Whether a model takes a picture."""


class Picture(NamedTuple):
    """A picture as a model's encoders see it, in the ways that the model takes it.

    `latents` (b, F, P, Hl, Wl) stand beside those that are denoised, and are never optimised.
    `tokens` (b, V, E) stand beside those of the text. `first` (b, 1, C, Hl, Wl) stands in the place
    of the first latent frame, which is then not denoised.
    """

    latents: Tensor | None = None
    tokens: Tensor | None = None
    first: Tensor | None = None

    @classmethod
    def masked(cls, latents: Tensor, tokens: Tensor | None, masks: int) -> Picture:
        """Beside the video stand the latents (b, F, C, Hl, Wl) of one whose first frame is known:
        with so many channels before them that are 1 there, and 0 elsewhere.
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

    def of_clip(self, latents: Tensor) -> Picture | None:
        """What such a picture is of a clip with latents (b, F, C, Hl, Wl): its own first frame.
        None where latents do not tell.
        """
        return None if self.first is None else Picture(first=latents[:, :1])

    def joined(
        self, latents: Tensor, text: Tensor, length: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Latents (B, F, C, Hl, Wl) with the picture, the text (b, L, E), and tokens.

        Beside tokens the text has the `length` of the training, with zeros after it: transformers
        tell both apart by their number.
        """
        count = len(latents)
        if self.first is not None:
            first = self.first.expand(count, -1, -1, -1, -1)
            latents = torch.cat([first, latents[:, 1:]], dim=1)
        if self.latents is not None:
            latents = torch.cat([latents, self.latents.expand(count, -1, -1, -1, -1)], dim=2)
        if self.tokens is None:
            return latents, text, None
        text = functional.pad(text, (0, 0, 0, length - text.shape[1]))
        return latents, text, self.tokens.to(text).expand(count, -1, -1)

    def led(
        self, output: Tensor, latents: Tensor, level: NoiseLevel, prediction: Prediction
    ) -> Tensor:
        """A model's output (B, F, C, Hl, Wl) at latents. That of the first frame leads to the
        picture, where the picture stands in its place: no solver goes elsewhere.
        """
        if self.first is None:
            return output
        first = leading(latents[:, :1], self.first, level, prediction)
        return torch.cat([first, output[:, 1:]], dim=1)

    @classmethod
    def stacked(cls, pictures: Sequence[Picture | None]) -> Picture | None:
        """The pictures of a batch, one after the other; None where there are none."""
        given = [picture for picture in pictures if picture is not None]
        if not given:
            return None
        assert len(given) == len(pictures), "each clip of a batch has a picture, or none has"
        parts = ([x for x in part if x is not None] for part in zip(*given, strict=True))
        return cls(*(torch.cat(part) if part else None for part in parts))

    def row(self, index: int) -> Picture:
        """That of one clip of a batch; one for all stays one."""
        return self._changed(lambda x: x if len(x) == 1 else x[index : index + 1])

    def repeated(self, copies: int) -> Picture:
        """Those of so many copies of a batch, one after the other; one for all stays one."""
        return self._changed(lambda x: x if len(x) == 1 else torch.cat([x] * copies))

    def to(self, device: torch.device) -> Picture:
        return self._changed(lambda x: x.to(device))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Picture:
        return Picture(*(None if x is None else change(x) for x in self))
