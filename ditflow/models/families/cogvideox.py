"""CogVideoX 1.0 text-to-video: rotary positions (5B class) or sinusoidal ones (2B class).

Yang et al., ICLR 2025 (2408.06072), by DDIM or DPM. The stock diffusers classes run unchanged.
"""

# B batch (b: 1 or B), F latent frames, C channels, Hl Wl latent rows and columns, N video tokens,
# L text tokens, E hidden dim, D head dim

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from torch import Tensor

from ditflow.core.noise import NoiseLevel
from ditflow.core.picture import Picture
from ditflow.core.positions import rotary_frequencies, rotary_tables, sinusoids
from ditflow.core.schedule import DenoisingSchedule, GuidanceKind, Scale, Step
from ditflow.core.sizes import Compression, TokenGrid, VideoSize
from ditflow.models.base import Model, ModelError, ModelSpec
from ditflow.models.encoders import Encoders
from ditflow.models.placing import placed_at
from ditflow.models.spec import Kept, fingerprint
from ditflow.models.taps import Layout, StopForward

GUIDANCE: dict[str, GuidanceKind] = {  # as published for each scheduler
    "CogVideoXDDIMScheduler": "constant",
    "CogVideoXDPMScheduler": "dynamic_timestep",
}
SUPPORTED = "a text-to-video CogVideoX 1.0, such as THUDM/CogVideoX-5b"


class CogVideoXEncoders(Encoders):
    """Text is padded without a mask: the transformer sees the padding, as in its training."""

    vae_class, text_class = "AutoencoderKLCogVideoX", "T5EncoderModel"
    tile = (240, 360)  # pixels; larger frames go in tiles of this size, as published


class CogVideoX(Model):
    """See `load` for a saved pipeline, and `spec_of` for what is refused."""

    transformer_class, encoders_class = CogVideoXTransformer3DModel, CogVideoXEncoders
    pipelines = (
        "CogVideoXPipeline",
        "CogVideoXImageToVideoPipeline",
        "CogVideoXVideoToVideoPipeline",
    )
    schedulers = tuple(GUIDANCE)
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

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        # a copy: diffusers moves its own to where it last added noise
        self._signal: Tensor = self.scheduler.alphas_cumprod.float().cpu()

    @classmethod
    def spec_of(
        cls, name: str, transformer: Mapping[str, Any], vae: Mapping[str, Any], scheduler: str
    ) -> ModelSpec:
        _check_supported(name, transformer, scheduler)
        space = 2 ** (len(vae["block_out_channels"]) - 1)
        sides = (transformer[f"sample_{side}"] * space for side in ("height", "width"))
        rotary = transformer.get("use_rotary_positional_embeddings")
        return ModelSpec(
            name=name,
            fingerprint=fingerprint(transformer),
            transformer=cls.transformer_class.__name__,
            position="rotary" if rotary else "sinusoidal",
            blocks=transformer["num_layers"],
            heads=transformer["num_attention_heads"],
            head_dim=transformer["attention_head_dim"],
            hidden=transformer["num_attention_heads"] * transformer["attention_head_dim"],
            text_tokens=transformer["max_text_seq_length"],
            text_channels=transformer["text_embed_dim"],
            compression=Compression(
                time=vae["temporal_compression_ratio"],
                space=space,
                patch=transformer["patch_size"],
                channels=transformer["in_channels"],
            ),
            size=VideoSize(transformer["sample_frames"], *sides),
            prediction="v",
            guidance=GUIDANCE[scheduler],
            scheduler=scheduler,
        )

    def schedule(
        self, steps: int, guidance_scale: Scale = 7.0, guidance: GuidanceKind | None = None
    ) -> DenoisingSchedule:
        self.check_steps(steps)
        self.scheduler.set_timesteps(steps)
        timesteps = tuple(self.scheduler.timesteps.tolist())
        levels = tuple(self.level(timestep) for timestep in timesteps)
        return DenoisingSchedule(timesteps, levels, guidance_scale, guidance or self.spec.guidance)

    def level(self, timestep: float) -> NoiseLevel:
        if not 0 <= timestep < len(self._signal):
            raise self.no_timestep(timestep, len(self._signal) - 1)
        signal = self._signal[int(timestep)]
        return NoiseLevel(float(signal**0.5), float((1 - signal) ** 0.5))

    def timestep_of(self, share: float) -> float:
        return int((1 - self._signal - share).abs().argmin())

    def advance(
        self,
        output: Tensor,
        step: Step,
        latents: Tensor,
        memory: Tensor | None,
        generators: Sequence[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        self.scheduler.set_timesteps(step.steps)
        if self.spec.scheduler == "CogVideoXDPMScheduler":
            before = int(self.scheduler.timesteps[step.index - 1]) if step.index else None
            previous_x0 = None if memory is None else memory[:, 0]
            arguments = output, previous_x0, step.timestep, before, latents
            following, x0 = self.scheduler.step(*arguments, generator=list(generators))
        else:
            following, x0 = self.scheduler.step(output, step.timestep, latents, return_dict=False)
        return following, x0[:, None]

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

        Its borders are whole tokens. Sinusoidal ones count tokens.
        """
        if self.spec.position == "sinusoidal":
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
        try:
            with placed_at(position, self.transformer, self.layout, self.spec.position):
                output: Tensor = self.transformer(
                    hidden_states=latents.to(self.dtype),
                    encoder_hidden_states=text.to(self.dtype).expand(len(latents), -1, -1),
                    timestep=torch.tensor([timestep], device=latents.device),
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
    if transformer.get("patch_size_t") is not None:
        raise ModelError(
            f"{name!r} is a CogVideoX 1.5, whose tokens span several frames (patch_size_t): "
            f"not supported. Use {SUPPORTED}."
        )
    channels = transformer["in_channels"], transformer["out_channels"]
    if transformer.get("use_learned_positional_embeddings") or channels[0] != channels[1]:
        raise ModelError(
            f"{name!r} is an image-to-video CogVideoX (learned positions, or an image as input): "
            f"not supported. Use {SUPPORTED}."
        )
    if scheduler not in GUIDANCE:
        raise ModelError(f"{name!r} has a {scheduler}; supported: {', '.join(GUIDANCE)}.")
