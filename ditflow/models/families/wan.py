"""Wan 2.1 and 2.2, from text or a picture: flow matching, cross-attention, rotary positions.

Wan Team, 2025 (2503.20314). Of 2.2, the A14B has an expert for much noise and one for little, and
the TI2V-5B is told a timestep for each token. The stock diffusers classes run unchanged.

An image-to-video model denoises the same latents. Beside them it sees a mask, which is 1 in the
first frame, and the latents of a video that begins with the picture and then is grey. Wan 2.1 also
sees the picture's CLIP tokens beside the text. The TI2V-5B may be given a picture: its latents take
the place of the first latent frame, and their tokens are told that there is no noise in them.
"""

# B batch (b: 1 or B), F latent frames, C channels, Hl Wl latent rows and columns, N video tokens,
# L text tokens, A heads, D head dim

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from ditflow.core.picture import Picture
from ditflow.core.positions import rotary_frequencies, rotary_tables
from ditflow.core.sizes import Compression, TokenGrid
from ditflow.models.base import ModelError, ModelSpec
from ditflow.models.encoders import Encoders
from ditflow.models.families.flow import SCHEDULERS, FlowModel
from ditflow.models.placing import placed_at
from ditflow.models.presets import trained_size
from ditflow.models.spec import Kept, architecture, expert_fingerprint
from ditflow.models.taps import Layout, StopForward

TEXT_TOKENS = 512
CLIP_TOKENS = 257  # of a picture


class WanEncoders(Encoders):
    """Latents are normalised by channel. Text that a mask hides is zero, as in the training."""

    vae_class, text_class = "AutoencoderKLWan", "UMT5EncoderModel"
    masked = True

    def normalised(self, latents: Tensor, config: Any) -> Tensor:
        mean, deviation = _statistics(config, latents)
        return (latents - mean) / deviation

    def denormalised(self, latents: Tensor, config: Any) -> Tensor:
        mean, deviation = _statistics(config, latents)
        return latents * deviation + mean


class Wan(FlowModel):
    """See `load` for a saved pipeline, and `spec_of` for what is refused."""

    transformer_class, encoders_class = WanTransformer3DModel, WanEncoders
    pipelines = ("WanPipeline", "WanImageToVideoPipeline", "WanVideoToVideoPipeline")
    schedulers = SCHEDULERS
    kept = Kept(own=10, wide=7, text=2)
    layout = Layout(
        blocks=("blocks",),
        attention="attn1",
        rotary=3,
        tail="norm_out",
        norms="BNE",
        channels_first=True,
        cross="attn2",
        table="rope",
    )
    needs = {
        "transformer": (
            *("num_attention_heads", "attention_head_dim", "num_layers", "patch_size"),
            *("in_channels", "out_channels", "text_dim"),
        ),
        "vae": ("dim_mult", "temperal_downsample"),
    }

    @classmethod
    def spec_of(
        cls, name: str, transformer: Mapping[str, Any], vae: Mapping[str, Any], scheduler: str
    ) -> ModelSpec:
        channels, time = transformer["out_channels"], 2 ** sum(vae["temperal_downsample"])
        beside = transformer["in_channels"] - channels
        # a first and a last picture are told apart by positions of their tokens
        if beside not in (0, time + channels) or transformer.get("pos_embed_seq_len"):
            raise ModelError(
                f"{name!r} is a Wan that takes more than a text and a first picture (it has "
                f"{channels + beside} input channels): use one that takes no more."
            )
        if scheduler not in cls.schedulers:
            raise ModelError(f"{name!r} has a {scheduler}; supported: {', '.join(cls.schedulers)}.")
        patch_time, patch, _ = transformer["patch_size"]
        told = architecture(cls.transformer_class, transformer) | {"position": "rotary"}
        return ModelSpec(
            **told,
            name=name,
            text_tokens=TEXT_TOKENS,
            text_channels=transformer["text_dim"],
            compression=Compression(
                time=time,
                space=2 ** (len(vae["dim_mult"]) - 1) * (vae.get("patch_size") or 1),
                patch=patch,
                channels=channels,
                patch_time=patch_time,
                first_alone=True,
            ),
            size=trained_size(**told),
            prediction="flow",
            guidance="constant",
            scheduler=scheduler,
            picture="required" if beside else "none",
        )

    @classmethod
    def with_options(cls, spec: ModelSpec, pipeline: Mapping[str, Any]) -> ModelSpec:
        boundary = pipeline.get("boundary_ratio") or 0.0
        if not (isinstance(boundary, int | float) and 0 <= boundary < 1):
            raise ModelError(
                f"{spec.name!r} has the boundary_ratio {boundary!r}: it is a number from 0 to 1, "
                "such as 0.875. Save or download the backbone again."
            )
        if pipeline.get("expand_timesteps"):
            if spec.picture == "required":
                raise ModelError(
                    f"{spec.name!r} has expand_timesteps, which puts a picture into the first "
                    "latent frame, and a transformer that takes a picture's channels beside the "
                    "latents: it is one or the other. Save or download the backbone again."
                )
            spec = replace(spec, token_timesteps=True, picture="optional")
        if boundary:  # both experts are configured as the transformer of a Wan 2.1
            whole = expert_fingerprint(spec.fingerprint, boundary)
            spec = replace(spec, boundary=boundary, fingerprint=whole)
        return spec

    def positions(self, grid: TokenGrid) -> Tensor:
        """A token's place in the grid, whatever its size."""
        return grid.places(self.device)

    def tables(self, positions: Tensor) -> Tensor:
        """A third of the channels turns with rows, one with columns, and the rest with time.

        Angles are float64, as the stock table's are.
        """
        space = 2 * (self.spec.head_dim // 6)
        channels = (self.spec.head_dim - 2 * space, space, space)
        options: Any = {"dtype": torch.float64, "device": positions.device}
        return rotary_tables(positions, [rotary_frequencies(n, **options) for n in channels])

    def look(self, images: Tensor, frames: int) -> Picture | None:
        if self.spec.picture == "none":
            return None
        if self.spec.picture == "optional":
            return Picture(first=self.encode(images[:, None]))
        sees = self.transformer.config.image_dim is not None
        tokens = self.encoders.image_tokens(images) if sees else None
        latents = self.encoders.encode_first(images, frames)
        return Picture.masked(latents, tokens, self.spec.compression.time)

    def blank(self, latents: Tensor) -> Picture | None:
        if self.spec.picture == "none":
            return None
        if self.spec.picture == "optional":
            return Picture(first=torch.zeros_like(latents[:, :1]))
        config = self.transformer.config
        tokens = None if config.image_dim is None else (CLIP_TOKENS, config.image_dim)
        return Picture.blank(latents, config.in_channels - config.out_channels, tokens)

    def predict(
        self,
        latents: Tensor,
        timestep: float,
        text: Tensor,
        position: Tensor | None = None,
        picture: Picture | None = None,
    ) -> Tensor | None:
        self.check_picture(picture)
        if position is not None:
            self.check_tapped()
        position = self.placed(position, latents)
        transformer = self.transformer_at(timestep)
        told = torch.tensor([timestep], device=latents.device)  # one, so no clip sees its batch
        if self.spec.token_timesteps:
            grid = self.spec.compression.grid_of(latents)
            told = told.repeat(1, grid.tokens)
            told[:, : grid.tokens_per_frame if picture is not None else 0] = 0
        text, tokens = text.to(self.dtype), None
        if picture is not None:
            latents, text, tokens = picture.joined(latents, text, TEXT_TOKENS)
        try:
            with placed_at(position, transformer, self.layout, self.spec.position):
                output: Tensor = transformer(
                    hidden_states=latents.transpose(1, 2).to(self.dtype),
                    timestep=told,
                    encoder_hidden_states=text.expand(len(latents), -1, -1),
                    encoder_hidden_states_image=tokens,
                    return_dict=False,
                )[0]
        except StopForward:
            return None
        return output.float().transpose(1, 2)


def _statistics(config: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of latents (B, C, F, Hl, Wl)."""
    values = torch.tensor([config.latents_mean, config.latents_std], device=latents.device)
    mean, deviation = values.view(2, -1, 1, 1, 1)
    return mean, deviation
