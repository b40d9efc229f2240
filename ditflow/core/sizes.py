"""Sizes of a video in pixels, latents and tokens, and the arithmetic between them.

Tokens are ordered by frame, then row, then column. `x` grows to the right, `y` downwards.
"""

# F latent frames, H W token rows and columns, S = H*W tokens per frame, N = F*S video tokens

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class VideoSize:
    """Size of a video: its frames, and rows and columns of pixels."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"


@dataclass(frozen=True)
class TokenGrid:
    """Size of a video in tokens: their frames, rows and columns."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"

    @property
    def tokens_per_frame(self) -> int:
        """Number of tokens per frame, S."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """Number of tokens of the video, N."""
        return self.frames * self.tokens_per_frame

    def places(self, device: torch.device | str | None = None) -> Tensor:
        """Places (t, y, x) of all tokens, float32 (N, 3), in tokens."""
        axes = (self.frames, self.height, self.width)
        return torch.cartesian_prod(*(torch.arange(n, device=device).float() for n in axes))

    def coordinates(self, device: torch.device | str | None = None) -> Tensor:
        """Places (x, y) of the tokens of one frame, float32 (S, 2), in tokens."""
        axes = (torch.arange(side, device=device) for side in (self.height, self.width))
        return torch.cartesian_prod(*axes).flip(-1).float()


@dataclass(frozen=True)
class Compression:
    """How a family of models turns pixels into latents and latents into tokens.

    A causal video VAE compresses `time` frames and `space` x `space` pixels into one latent of
    `channels` numbers. A transformer reads `patch_time` x `patch` x `patch` latents as one token.
    With `first_alone` the first frame always has a latent of its own (Wan). Without, it has one
    only if the number of latent frames is odd (CogVideoX). A transformer with learned positions
    reads videos of `only` one size.
    """

    time: int = 4
    space: int = 8
    patch: int = 2
    channels: int = 16
    patch_time: int = 1
    first_alone: bool = False
    only: VideoSize | None = None

    def latent_frames(self, frames: int) -> int:
        """Number of latent frames of an encoded video: 17 -> 5, 21 -> 6 and 24 -> 6 (CogVideoX)."""
        return 1 + (frames - 1) // self.time if self.first_alone else -(-frames // self.time)

    def decoded_frames(self, latent_frames: int) -> int:
        """Number of frames of a decoded video.

        CogVideoX decodes an odd number of latents to a single frame and whole groups (7 -> 25), an
        even number to whole groups only (6 -> 24).
        """
        alone = self.first_alone or latent_frames % 2
        return self.time * latent_frames - (self.time - 1) * bool(alone)

    def latent_times(self, frames: int) -> tuple[float, ...]:
        """When each latent frame of a video is, as the mean of the frames that it holds."""
        count = self.latent_frames(frames)
        alone = int(self.first_alone or count % 2)
        middle = (self.time - 1) / 2
        groups = (alone + self.time * group + middle for group in range(count - alone))
        return (0.0,) * alone + tuple(min(time, frames - 1.0) for time in groups)

    def token_times(self, frames: int) -> tuple[float, ...]:
        """When each row of tokens of a video is: the mean of the latent frames that it spans."""
        times = self.latent_times(frames)
        spans = (times[i : i + self.patch_time] for i in range(0, len(times), self.patch_time))
        return tuple(sum(span) / len(span) for span in spans if len(span) == self.patch_time)

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        """Shape (F, C, Hl, Wl) of the latents of a video.

        Raises ValueError if the size does not divide into tokens.
        """
        self._check(size)
        return (
            self.latent_frames(size.frames),
            self.channels,
            size.height // self.space,
            size.width // self.space,
        )

    def grid(self, size: VideoSize) -> TokenGrid:
        """The tokens of a video. Raises ValueError if the size does not divide into tokens."""
        frames, _, height, width = self.latent_shape(size)
        return TokenGrid(frames // self.patch_time, height // self.patch, width // self.patch)

    def check_motion(self, size: VideoSize) -> None:
        """Raise ValueError for a size from which no motion can be taken.

        The size must divide into tokens. The video needs at least two latent frames, and must have
        the same length after it is encoded and decoded.
        """
        self._check(size)
        latent, least = self.latent_frames(size.frames), 2 * self.patch_time
        if latent < least:
            raise ValueError(
                f"a video of {size.frames} frames holds no motion: it makes one "
                f"{'latent frame' if least == 2 else 'row of tokens in time'}, "
                f"and two are needed. Use {least * self.time} or more."
            )
        come_back = sorted(
            self._lengths(latent + self.patch_time), key=lambda frames: abs(frames - size.frames)
        )
        if size.frames not in come_back:
            decoded = self.decoded_frames(latent)
            wrong = f"would come back with {decoded}"
            if latent % self.patch_time:
                wrong = f"does not divide into tokens, which span {self.patch_time} latent frames"
            raise ValueError(
                f"a video of {size.frames} frames {wrong}: use {come_back[0]} or {come_back[1]}, "
                "which keep their length."
            )

    def longest(self, frames: int) -> int | None:
        """The longest video of at most so many frames that `check_motion` accepts; None if none."""
        lengths = [self.only.frames] if self.only else self._lengths(self.latent_frames(frames))
        return max((length for length in lengths if length <= frames), default=None)

    def _lengths(self, latent_frames: int) -> list[int]:
        """How many frames videos have that come back as long as they are."""
        return [
            self.decoded_frames(latents)
            for latents in range(2 * self.patch_time, latent_frames + 1, self.patch_time)
        ]

    def grid_of(self, latents: Tensor) -> TokenGrid:
        """The tokens of latents (B, F, C, Hl, Wl)."""
        _, frames, _, height, width = latents.shape
        return TokenGrid(frames // self.patch_time, height // self.patch, width // self.patch)

    def _check(self, size: VideoSize) -> None:
        multiple = self.space * self.patch
        if size.frames < 1:
            raise ValueError(f"a video of {size.frames} frames is empty; use at least one frame.")
        sides = (size.height, size.width)
        if any(side < multiple or side % multiple for side in sides):
            height, width = (max(multiple, round(side / multiple) * multiple) for side in sides)
            raise ValueError(
                f"size {size.height}x{size.width} (height x width) does not divide into tokens: "
                f"use multiples of {multiple}, such as {height}x{width}."
            )
        if self.only not in (None, size):
            raise ValueError(
                f"a video of {size} (frames x height x width) has no positions in this model, "
                f"which learned those of one size: use {self.only}."
            )
