"""Sizes and their arithmetic: pixels -> latents -> tokens.

Token order is row-major over (frame, row, column), column fastest. `x` grows to the right, `y`
downwards.
"""

# F latent frames, H W token rows and columns, S = H*W tokens per frame, N = F*S video tokens

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class VideoSize:
    """Frames, rows and columns of a video, in pixels."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"


@dataclass(frozen=True)
class TokenGrid:
    """Frames, rows and columns of the video tokens of a transformer."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"

    @property
    def tokens_per_frame(self) -> int:
        """S."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """N."""
        return self.frames * self.tokens_per_frame

    def coordinates(self, device: torch.device | str | None = None) -> Tensor:
        """Where the tokens of one frame are: float32 (S, 2) of (x, y), in tokens."""
        rows, columns = (
            torch.arange(self.height, device=device),
            torch.arange(self.width, device=device),
        )
        return torch.cartesian_prod(rows, columns).flip(-1).float()


@dataclass(frozen=True)
class Compression:
    """How a family of models turns pixels into latents and latents into tokens.

    A causal video VAE compresses `time` frames and `space` x `space` pixels into one latent of
    `channels` numbers. A transformer reads `patch_time` x `patch` x `patch` latents as one token.
    With `first_alone` the first frame is always a latent of its own (Wan); without, only where the
    number of latent frames is odd (CogVideoX).
    """

    time: int = 4
    space: int = 8
    patch: int = 2
    channels: int = 16
    patch_time: int = 1
    first_alone: bool = False

    def latent_frames(self, frames: int) -> int:
        """Latent frames that encoding makes of `frames`: 17 -> 5, and 21 and 24 -> 6."""
        return 1 + (frames - 1) // self.time if self.first_alone else -(-frames // self.time)

    def decoded_frames(self, latent_frames: int) -> int:
        """Frames that decoding makes of `latent_frames`: an odd count starts with a single frame (7
        -> 25), an even one does not (6 -> 24).
        """
        alone = self.first_alone or latent_frames % 2
        return self.time * latent_frames - (self.time - 1) * bool(alone)

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        """(F, C, Hl, Wl) of the latents of a video. Raises ValueError where the size does not
        divide into tokens.
        """
        self._check(size)
        return (
            self.latent_frames(size.frames),
            self.channels,
            size.height // self.space,
            size.width // self.space,
        )

    def grid(self, size: VideoSize) -> TokenGrid:
        """The tokens of a video. Raises ValueError where the size does not divide into tokens."""
        frames, _, height, width = self.latent_shape(size)
        return TokenGrid(frames // self.patch_time, height // self.patch, width // self.patch)

    def check_motion(self, size: VideoSize) -> None:
        """Raise ValueError where a video does not divide into tokens, has fewer than two latent
        frames, or would not come back as long as it is.
        """
        self._check(size)
        latent = self.latent_frames(size.frames)
        if latent < 2:
            raise ValueError(
                f"a video of {size.frames} frames holds no motion: it makes one latent frame, and two are needed. Use {2 * self.time} or more."
            )
        if (decoded := self.decoded_frames(latent)) != size.frames:
            fitting = sorted(
                map(self.decoded_frames, range(2, latent + 2)),
                key=lambda frames: abs(frames - size.frames),
            )
            raise ValueError(
                f"a video of {size.frames} frames would come back with {decoded}: use {fitting[0]} or {fitting[1]}, which keep their length."
            )

    def longest(self, frames: int) -> int | None:
        """The most frames, up to so many, that hold motion and come back as many; None if none
        do.
        """
        latents = range(2, self.latent_frames(frames) + 1)
        return max((n for n in map(self.decoded_frames, latents) if n <= frames), default=None)

    def grid_of(self, latents: Tensor) -> TokenGrid:
        """The tokens of latents (B, F, C, Hl, Wl)."""
        _, frames, _, height, width = latents.shape
        return TokenGrid(frames // self.patch_time, height // self.patch, width // self.patch)

    def _check(self, size: VideoSize) -> None:
        multiple = self.space * self.patch
        if size.frames < 1:
            raise ValueError(
                f"a video of {size.frames} frames was asked for; it needs at least one."
            )
        if (
            size.height < multiple
            or size.width < multiple
            or size.height % multiple
            or size.width % multiple
        ):
            height, width = (
                max(multiple, round(pixels / multiple) * multiple)
                for pixels in (size.height, size.width)
            )
            raise ValueError(
                f"size {size.height}x{size.width} (height x width) does not divide into tokens: use multiples of {multiple}, such as {height}x{width}."
            )
