"""What the contract tests must know of a family of transformers, one row each.

Nothing but the names of parts and how the stock pipeline calls the transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor
from torch.nn import functional

from ditflow.models import Model
from tests.closeness import assert_close_in_norm
from tests.registry import picture_for


@dataclass(frozen=True)
class Family:
    """`call` takes latents (B, F, C, Hl, Wl), text and a timestep, as the stock pipeline does.

    `last` is the timestep of pure noise. A family that is `invariant` computes the same bits of a
    clip in any batch. The others do not on a CPU: their products of matrices are added in an order
    that depends on the number of rows, which makes a relative difference of about 5e-7.
    """

    call: Callable[[Model, Tensor, Tensor, float], Tensor]
    blocks: str
    embedding: str  # runs before the first block
    feed_forward: str
    last: int
    invariant: bool

    def named(self, name: str) -> str:
        """A part's own name, from one such as "{blocks}.1.{feed_forward}"."""
        return name.format(**vars(self))


def _cogvideox(model: Model, latents: Tensor, text: Tensor, timestep: float) -> Tensor:
    grid = model.spec.compression.grid_of(latents)
    rotary = model.spec.position == "rotary"
    picture = picture_for(model, latents)
    if picture is not None and picture.latents is not None:
        shown = picture.latents.to(latents).expand(len(latents), -1, -1, -1, -1)
        latents = torch.cat([latents, shown], dim=2)
    output: Tensor = model.transformer(
        hidden_states=latents,
        encoder_hidden_states=text,
        timestep=torch.tensor([timestep]),
        ofs=torch.tensor([2.0]) if model.transformer.config.ofs_embed_dim else None,
        image_rotary_emb=tuple(model.stock_position(grid)[0, 0]) if rotary else None,
    ).sample
    return output


def _wan(model: Model, latents: Tensor, text: Tensor, timestep: float) -> Tensor:
    told, tokens = torch.tensor([timestep]), None
    if model.spec.token_timesteps:
        told = told.expand(1, model.spec.compression.grid_of(latents).tokens)
    picture = picture_for(model, latents)
    if picture is not None and picture.first is not None:
        grid = model.spec.compression.grid_of(latents)
        frame = torch.arange(latents.shape[1]).view(1, -1, 1, 1, 1)
        latents = torch.where(frame == 0, picture.first.to(latents), latents)
        told = torch.where(torch.arange(grid.tokens) < grid.tokens_per_frame, 0, told)
    elif picture is not None:
        shown = picture.latents.to(latents).expand(len(latents), -1, -1, -1, -1)
        latents = torch.cat([latents, shown], dim=2)
        if picture.tokens is not None:  # which are told from 512 text tokens
            tokens = picture.tokens.to(latents).expand(len(latents), -1, -1)
            text = functional.pad(text, (0, 0, 0, 512 - text.shape[1]))
    expert = model.experts[timestep < 1000 * model.spec.boundary]
    output: Tensor = expert(
        hidden_states=latents.transpose(1, 2),
        timestep=told,
        encoder_hidden_states=text,
        encoder_hidden_states_image=tokens,
    ).sample
    return output.transpose(1, 2)


FAMILIES = {
    "CogVideoXTransformer3DModel": Family(
        _cogvideox, "transformer_blocks", "patch_embed", "ff", last=999, invariant=True
    ),
    "WanTransformer3DModel": Family(
        _wan, "blocks", "patch_embedding", "ffn", last=1000, invariant=False
    ),
}


@contextmanager
def likeliest() -> Iterator[None]:
    """Pictures as we encode them in a stock pipeline of CogVideoX, which else takes a sample of
    what the VAE says of them.
    """
    mode = DiagonalGaussianDistribution.mode
    with mock.patch.object(DiagonalGaussianDistribution, "sample", lambda self, *_: mode(self)):
        yield


def family_of(model: Model) -> Family:
    return FAMILIES[model.spec.transformer]


@torch.no_grad()
def stock_output(model: Model, latents: Tensor, text: Tensor, timestep: float = 500) -> Tensor:
    """What the stock pipeline makes of it; clip by clip where a clip does not depend on others."""
    family, size = family_of(model), 1 if family_of(model).invariant else len(latents)
    clips = zip(latents.to(model.dtype).split(size), text.to(model.dtype).split(size), strict=True)
    return torch.cat([family.call(model, *clip, timestep) for clip in clips]).float()


def assert_same_clip(
    model: Model, actual: Tensor, expected: Tensor, *, largest: float = 1e-4
) -> None:
    """What is computed of a clip in batches of different sizes: the same bits, or nearly.

    `largest` is how much the worst 1 % may differ, where Adam enlarges rounding.
    """
    if family_of(model).invariant:
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    else:
        assert_close_in_norm(actual.float(), expected.float(), largest=largest)
