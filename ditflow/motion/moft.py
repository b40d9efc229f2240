"""Motion feature (MOFT): features without their mean over time, on the few channels that carry
motion.

Xiao et al., NeurIPS 2024 (2405.14864), in the form that DiTFlow (Pondaven et al., CVPR 2025)
compares with: the motion channels are those that weigh most in the first principal component of the
reference's own mean-free features, and the loss is 1 - the cosine over these channels, averaged
over tokens and frames. A clip has 0 with itself, a static video 1 with any reference, the opposite
motion 2. Options nearer to the original: channels from synthetic pans, and the mean squared
difference of features averaged over the frame. Departures: the output of a transformer block; pans
are made of latents, by sliding the reference's first frame; a clip in which nothing changes gives
0.
"""

# B batch, R clips shown for each reference, F latent frames, S tokens per frame, N = F*S video
# tokens, E hidden dim, M motion channels,
# C channels, Hl Wl latent rows and columns

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording
from ditflow.motion.base import MotionSignal, Words

Channels = Literal["reference", "pans"]
Region = Literal["token", "frame"]


class MotionFeatures(NamedTuple):
    """Mean-free features (B, F, S, M) on each clip's motion channels, and which these are, (B,
    M).
    """

    values: Tensor
    channels: Tensor


@dataclass(frozen=True)
class MotionFeature(MotionSignal[MotionFeatures]):
    """MOFT of one block's output. Its paper looks at the reference at timestep 200, the published
    DiTFlow baseline at 0.

    Attributes:
        proportion: of the channels that carry motion.
        channels: where these are found: in the reference, or in synthetic pans of its first frame,
            left, right, up and down.
        region: what is compared: each token by the cosine, or the mean over a frame's tokens by its
            squared difference.
    """

    name = "moft"

    proportion: float = 0.04
    channels: Channels = "reference"
    region: Region = "token"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.proportion <= 1:
            raise ValueError(
                f"proportion={self.proportion}: the part of the channels that carries motion lies "
                "above 0 and is 1 at most."
            )
        for argument, kinds in (("channels", Channels), ("region", Region)):
            if getattr(self, argument) not in get_args(kinds):
                raise ValueError(
                    f"{argument}={getattr(self, argument)!r}: it is {' or '.join(get_args(kinds))}."
                )

    @property
    def features(self) -> tuple[int, ...]:
        return (self.read_block,)

    @property
    def clips_shown(self) -> int:
        return 1 if self.channels == "reference" else 5

    def shown(self, latents: Tensor, grid: TokenGrid) -> Tensor:
        return (
            latents
            if self.channels == "reference"
            else torch.cat([latents, *pans(latents, latents.shape[-1] // grid.width)])
        )

    @torch.no_grad()
    def reference(
        self, recording: Recording, grid: TokenGrid, words: Words | None = None
    ) -> MotionFeatures:
        moving = mean_free(recording.features[self.read_block], grid)  # (R*B, F, S, E)
        own, *panned = moving.chunk(self.clips_shown)
        learned = torch.stack(panned, dim=1) if panned else own  # (B, ..., E)
        found = torch.stack(
            [motion_channels(features.flatten(0, -2), self.proportion) for features in learned]
        )
        return MotionFeatures(on_channels(own, found), found)

    def loss(self, recording: Recording, grid: TokenGrid, reference: MotionFeatures) -> Tensor:
        values = on_channels(
            mean_free(recording.features[self.read_block], grid), reference.channels
        )
        loss = (token_loss if self.region == "token" else frame_loss)(values, reference.values)
        return torch.where(self.is_static(reference), 0, loss)

    def is_static(self, reference: MotionFeatures) -> Tensor:
        return reference.values.flatten(1).eq(0).all(dim=1)


def mean_free(features: Tensor, grid: TokenGrid) -> Tensor:
    """(B, F, S, E) of features (B, N, E), without their mean over frames."""
    frames: Tensor = features.to(torch.promote_types(features.dtype, torch.float32)).unflatten(
        1, (grid.frames, -1)
    )
    return frames - frames.mean(dim=1, keepdim=True)


def motion_channels(features: Tensor, proportion: float) -> Tensor:
    """The int(proportion * E) channels, one at least, that weigh most in the first right singular
    vector of features (tokens, E).
    """
    component: Tensor = torch.linalg.eigh(features.double().T @ features.double()).eigenvectors[
        :, -1
    ]
    return component.abs().topk(max(1, int(proportion * len(component)))).indices


def on_channels(features: Tensor, channels: Tensor) -> Tensor:
    """(B, F, S, M) of features (B, F, S, E)."""
    return features.gather(-1, channels[:, None, None].expand(*features.shape[:-1], -1))


def token_loss(values: Tensor, reference: Tensor) -> Tensor:
    """(B,) from mean-free features (B, F, S, M)."""
    return 1 - cosine_similarity(values, reference, dim=-1).flatten(1).mean(dim=1)


def frame_loss(values: Tensor, reference: Tensor) -> Tensor:
    """(B,): the original's, for a region that is the whole frame."""
    return (values.mean(dim=2) - reference.mean(dim=2)).square().flatten(1).mean(dim=1)


def pans(latents: Tensor, token: int) -> list[Tensor]:
    """Four times (B, F, C, Hl, Wl): the first frame slides left, right, up and down by a token (in
    latent columns) a frame, and comes in again.
    """
    still = latents[:, 0]
    ways = [(-token, -1), (token, -1), (-token, -2), (token, -2)]
    return [
        torch.stack(
            [still.roll(shift * frame, dims=axis) for frame in range(latents.shape[1])], dim=1
        )
        for shift, axis in ways
    ]
