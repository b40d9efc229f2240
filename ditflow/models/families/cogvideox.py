"""CogVideoX 1.0 and 1.5, from text or a picture: rotary positions, or sinusoidal ones (2B class).

Yang et al., ICLR 2025 (2408.06072), by DDIM or DPM. The stock diffusers classes run unchanged.

A token of 1.5 spans two latent frames, and its places are whole numbers, whatever the size. Its
stock pipeline adds a latent frame where their number is odd, and drops it again; here a video has
an even number of them. An image-to-video model sees the latents of the picture beside those of the
first latent frame, and zeros beside the others. Here they are the mode of what the VAE encodes, in
the stock pipeline a sample. That of 1.0 has learned positions besides, for one size.
"""

# B batch (b: 1 or B), F latent frames, C channels, Hl Wl latent rows and columns, N video tokens,
# L text tokens, E hidden dim, D head dim

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from torch import Tensor
from torch.nn import functional

from ditflow.core.picture import Picture
from ditflow.core.positions import rotary_frequencies, rotary_tables, sinusoids
from ditflow.core.sizes import Compression, TokenGrid, VideoSize
from ditflow.models.base import ModelError, ModelSpec
from ditflow.models.encoders import Encoders
from ditflow.models.families.diffusion import GUIDANCE, DiffusionModel
from ditflow.models.placing import placed_at
from ditflow.models.presets import trained_size
from ditflow.models.spec import Kept, architecture
from ditflow.models.taps import Layout, StopForward

SIDES = ("height", "width")
OFS = 2.0  # what an image-to-video 1.5 is told beside the timestep, as published


class CogVideoXEncoders(Encoders):
    """Text is padded without a mask: the transformer sees the padding, as in its training."""

    vae_class, text_class = "AutoencoderKLCogVideoX", "T5EncoderModel"
    tile = (240, 360)  # pixels; larger frames go in tiles of this size, as published

    def encode_first(self, images: Tensor, frames: int) -> Tensor:
        """Latents of images uint8 (B, C, Y, X), and zeros after them, in the scale of a picture."""
        first, config = self.encode(images[:, None]), self._load_vae().config
        if config.invert_scale_latents:  # published like this
            first = first / config.scaling_factor**2
        return functional.pad(first, (0, 0, 0, 0, 0, 0, 0, frames - 1))


class CogVideoX(DiffusionModel):
    """See `load` for a saved pipeline, and `spec_of` for what is refused."""

    transformer_class, encoders_class = CogVideoXTransformer3DModel, CogVideoXEncoders
    pipelines = (
        "CogVideoXPipeline",
        "CogVideoXImageToVideoPipeline",
        "CogVideoXVideoToVideoPipeline",
    )
    kept = Kept(13, 0, 13)
    layout = Layout(
        blocks=("transformer_blocks",),
        attention="attn1",
        rotary="image_rotary_emb",
        tail="norm_final",
        norms="BAND",
        text_first=True,
        added="patch_embed",
    )
    # keys that every version of diffusers has saved; what came later has a default
    needs = {
        "transformer": (
            *("num_attention_heads", "attention_head_dim", "num_layers", "patch_size"),
            *("in_channels", "out_channels", "max_text_seq_length", "text_embed_dim"),
            *("sample_frames", "sample_height", "sample_width"),
        ),
        "vae": ("block_out_channels", "temporal_compression_ratio"),
    }

    @classmethod
    def spec_of(
        cls, name: str, transformer: Mapping[str, Any], vae: Mapping[str, Any], scheduler: str
    ) -> ModelSpec:
        _check_supported(name, transformer, scheduler)
        config, space = transformer, 2 ** (len(vae["block_out_channels"]) - 1)
        channels, patch_time = config["out_channels"], config.get("patch_size_t") or 1
        beside = config["in_channels"] - channels
        rotary = config.get("use_rotary_positional_embeddings")
        told = architecture(cls.transformer_class, config)
        told |= {"position": "rotary" if rotary else "sinusoidal"}
        told |= {"picture": "required" if beside else "none"}
        size = VideoSize(
            config["sample_frames"], *(config[f"sample_{side}"] * space for side in SIDES)
        )
        if patch_time > 1:  # its configuration tells how large the grid may be, and not how large
            size = trained_size(**told, patch_time=patch_time)
        return ModelSpec(
            **told,
            name=name,
            text_tokens=config["max_text_seq_length"],
            text_channels=config["text_embed_dim"],
            compression=Compression(
                time=vae["temporal_compression_ratio"],
                space=space,
                patch=config["patch_size"],
                channels=channels,
                patch_time=patch_time,
                only=size if config.get("use_learned_positional_embeddings") else None,
            ),
            size=size,
            prediction="v",
            guidance=GUIDANCE[scheduler],
            scheduler=scheduler,
        )

    def position_at(self, positions: Tensor) -> Tensor:
        """Of sinusoidal positions a quarter of the channels is of time, three eighths each of
        columns and rows.
        """
        if self.spec.position == "rotary":
            return super().position_at(positions)
        time, config = self.spec.hidden // 4, self.transformer.config
        space, scale = time * 3 // 2, config.spatial_interpolation_scale
        axes = (
            (0, time, config.temporal_interpolation_scale),
            (2, space, scale),
            (1, space, scale),
        )
        options: Any = {"dtype": torch.float64, "device": positions.device}
        parts = [
            sinusoids(positions[..., axis] / stretch, rotary_frequencies(channels, **options))
            for axis, channels, stretch in axes
        ]
        return torch.cat(parts, dim=-1)

    def positions(self, grid: TokenGrid) -> Tensor:
        """A rotary grid of another size than the trained one is stretched into its middle.

        Its borders are whole tokens. Sinusoidal ones, and those of 1.5, count tokens.
        """
        if self.spec.position == "sinusoidal" or self.spec.compression.patch_time > 1:
            return grid.places(self.device)
        trained = self.spec.compression.grid(self.spec.size)
        start, stop = get_resize_crop_region_for_grid(
            (grid.height, grid.width), trained.width, trained.height
        )
        starts, stops = (0, *start), (grid.frames, *stop)
        spans = zip(starts, stops, (grid.frames, grid.height, grid.width), strict=True)
        axes = (
            torch.linspace(first, last * (count - 1) / count, count, device=self.device)
            for first, last, count in spans
        )
        return torch.cartesian_prod(*axes)

    def tables(self, positions: Tensor) -> Tensor:
        """A quarter of the channels turns with time, three eighths each with rows and columns."""
        time, space = self.spec.head_dim // 4, self.spec.head_dim // 8 * 3
        axes = [rotary_frequencies(n, device=positions.device) for n in (time, space, space)]
        return rotary_tables(positions, axes)

    def look(self, images: Tensor, frames: int) -> Picture | None:
        if self.spec.picture == "none":
            return None
        count = self.spec.compression.latent_frames(frames)
        return Picture(self.encoders.encode_first(images, count))

    def blank(self, latents: Tensor) -> Picture | None:
        if self.spec.picture == "none":
            return None
        return Picture.blank(latents, self.spec.compression.channels, None)

    def predict(
        self,
        latents: Tensor,
        timestep: float,
        text: Tensor,
        position: Tensor | None = None,
        picture: Picture | None = None,
    ) -> Tensor | None:
        self.check_picture(picture)
        self._check_text(text)
        if position is not None and self.spec.position == "rotary":
            self.check_tapped()
        position = self.placed(position, latents)
        rotary = self._own_tables(latents) if position is None else None
        transformer = self.transformer_at(timestep)
        if picture is not None:
            latents, text, _ = picture.joined(latents, text, self.spec.text_tokens)
        told = transformer.config.ofs_embed_dim is not None
        ofs = torch.full((1,), OFS, device=latents.device) if told else None
        try:
            with placed_at(position, transformer, self.layout, self.spec.position):
                output: Tensor = transformer(
                    hidden_states=latents.to(self.dtype),
                    encoder_hidden_states=text.to(self.dtype).expand(len(latents), -1, -1),
                    timestep=torch.tensor([timestep], device=latents.device),
                    ofs=ofs,
                    image_rotary_emb=rotary,
                    return_dict=False,
                )[0]
        except StopForward:
            return None
        return output.float()

    def _own_tables(self, latents: Tensor) -> tuple[Tensor, Tensor] | None:
        """The model's own rotary tables, which come with each call; sinusoidal ones do not."""
        if self.spec.position == "sinusoidal":
            return None
        cos, sin = self.tables(self.positions(self.spec.compression.grid_of(latents)))
        return cos, sin

    def _check_text(self, text: Tensor) -> None:
        if self.spec.position == "sinusoidal" and text.shape[1] != self.spec.text_tokens:
            raise ModelError(
                f"{self.spec.name!r} has sinusoidal positions and needs {self.spec.text_tokens} "
                f"text tokens, not {text.shape[1]}. Make them with embed()."
            )


def _check_supported(name: str, transformer: Mapping[str, Any], scheduler: str) -> None:
    channels, given = transformer["out_channels"], transformer["in_channels"]
    if given not in (channels, 2 * channels):
        raise ModelError(
            f"{name!r} is a CogVideoX that takes more than a text and a first picture (it has "
            f"{given} input channels): use one that takes no more."
        )
    if transformer.get("use_learned_positional_embeddings") and not transformer.get(
        "use_rotary_positional_embeddings"
    ):
        raise ModelError(
            f"{name!r} is a CogVideoX with learned positions alone, which cannot be moved: use one "
            "with rotary positions."
        )
    if scheduler not in GUIDANCE:
        raise ModelError(f"{name!r} has a {scheduler}; supported: {', '.join(GUIDANCE)}.")
