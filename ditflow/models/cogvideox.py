"""CogVideoX 1.0 text-to-video: rotary positions (5B class) or sinusoidal ones (2B class), DDIM or
DPM scheduler.

Yang et al., ICLR 2025 (2408.06072). The stock diffusers classes run unchanged.
"""

# B batch (b: 1 or B), F latent frames, C channels, Hl Wl latent rows and columns, N video tokens, L
# text tokens, E hidden dim, D head dim

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

import diffusers
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel, DiffusionPipeline
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from torch import Tensor

from ditflow.core.positions import rotary_tables
from ditflow.core.schedule import DenoisingSchedule, GuidanceKind, Step
from ditflow.core.sizes import Compression, TokenGrid, VideoSize
from ditflow.core.tokens import KeyValue, Recording
from ditflow.models.base import Model, ModelError, ModelSpec, fingerprint
from ditflow.models.encoders import Encoders, loading
from ditflow.models.taps import Layout, StopForward, added_position, taps

RotaryArgument = Tensor | tuple[Tensor, Tensor] | None

LAYOUT = Layout()
GUIDANCE: dict[str, GuidanceKind] = {
    "CogVideoXDDIMScheduler": "constant",
    "CogVideoXDPMScheduler": "dynamic_timestep",
}  # as published for each
SUPPORTED = "a text-to-video CogVideoX 1.0, such as THUDM/CogVideoX-5b"

# which every version of diffusers has saved; what came later is its default where it is not there
SIZES = {
    "transformer": (
        *(
            "num_attention_heads",
            "attention_head_dim",
            "num_layers",
            "patch_size",
            "in_channels",
            "out_channels",
            "max_text_seq_length",
        ),
        *("sample_frames", "sample_height", "sample_width", "text_embed_dim"),
    ),
    "vae": ("block_out_channels", "temporal_compression_ratio"),
}


class CogVideoX(Model):
    """See `load` for a saved pipeline, and `spec_of` for what is refused."""

    def __init__(
        self, spec: ModelSpec, transformer: Any, scheduler: Any, encoders: Encoders
    ) -> None:
        self.spec, self.scheduler, self.encoders = spec, scheduler, encoders
        self.transformer = transformer.eval().requires_grad_(False)  # a CogVideoXTransformer3DModel
        self.device, self.dtype = encoders.device, transformer.dtype
        self._noise_levels: Tensor = (
            (1 - scheduler.alphas_cumprod).float().cpu()
        )  # diffusers moves its own to where it last added noise
        self._tapped = False

    @classmethod
    def load(cls, folder: str, *, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        spec = cls.spec_in(folder, name)
        with loading(folder, "scheduler"):
            scheduler = getattr(diffusers, spec.scheduler).from_pretrained(
                folder, subfolder="scheduler"
            )
        with loading(folder, "transformer"):
            transformer = CogVideoXTransformer3DModel.from_pretrained(
                folder, subfolder="transformer", dtype=dtype, use_safetensors=True
            )
        return cls(
            spec,
            transformer.to(device),
            scheduler,
            Encoders(folder, spec.text_tokens, device, dtype),
        )

    @classmethod
    def spec_in(cls, folder: str, name: str) -> ModelSpec:
        """Of a folder in diffusers format, or a hub id, by its configurations alone. Raises
        ModelError that names the part that is missing or broken.
        """
        with loading(folder, "scheduler"):
            scheduler = DiffusionPipeline.load_config(folder)["scheduler"][1]
        with loading(folder, "transformer"):
            transformer = _config(CogVideoXTransformer3DModel, folder, "transformer")
        with loading(folder, "vae"):
            vae = _config(AutoencoderKLCogVideoX, folder, "vae")
        return spec_of(name, transformer, vae, scheduler)

    @classmethod
    def sketch(
        cls,
        folder: str,
        *,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        blocks: int | None = None,
    ) -> Self:
        spec = cls.spec_in(folder, name)
        with loading(folder, "scheduler"):
            scheduler = getattr(diffusers, spec.scheduler).from_pretrained(
                folder, subfolder="scheduler"
            )
        config = CogVideoXTransformer3DModel.load_config(folder, subfolder="transformer")
        with init_empty_weights() if device.type == "meta" else nullcontext():
            transformer = CogVideoXTransformer3DModel.from_config(
                config, num_layers=blocks if blocks is not None else spec.blocks
            )
        torch.nn.Module.to(
            transformer, device, dtype
        )  # diffusers' own warns of what matters for trained weights only
        return cls(spec, transformer, scheduler, Encoders(folder, spec.text_tokens, device, dtype))

    def encode(self, frames: Tensor) -> Tensor:
        return self.encoders.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        return self.encoders.decode(latents)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        return self.encoders.embed(prompts)

    def words(self, prompts: Sequence[str], subjects: Sequence[str | int]) -> Tensor:
        return self.encoders.words(prompts, subjects)

    def release_encoders(self) -> None:
        self.encoders.release()

    def stock_position(self, size: VideoSize) -> Tensor:
        grid = self.spec.compression.grid(size)
        return (
            self._rotary_table(grid).expand(1, 2, -1, -1, -1)
            if self.spec.position == "rotary"
            else self._sinusoidal_table(grid)
        )

    def rotary_positions(self, size: VideoSize) -> Tensor:
        return self._positions(self.spec.compression.grid(size))

    def predict(
        self, latents: Tensor, timestep: int, text: Tensor, position: Tensor | None = None
    ) -> Tensor | None:
        rotary, added = self._placed(latents, text, position)
        try:
            with added:
                output: Tensor = self.transformer(
                    hidden_states=latents.to(self.dtype),
                    encoder_hidden_states=text.to(self.dtype).expand(len(latents), -1, -1),
                    timestep=torch.tensor(
                        [timestep], device=latents.device
                    ),  # one for all clips: nothing of a clip depends on its batch
                    image_rotary_emb=rotary,
                    return_dict=False,
                )[0]
        except StopForward:
            return None
        return output.float()

    @contextmanager
    def tapped(
        self,
        capture: Collection[int] = (),
        features: Collection[int] = (),
        *,
        stop_early: bool = False,
        key_value: KeyValue | None = None,
        checkpointing: bool = False,
    ) -> Iterator[Recording]:
        assert not self._tapped, (
            "taps do not nest: one context records and replaces all that is wanted"
        )
        self.check_blocks([*capture, *features, *(key_value or {})])
        was = self.transformer.gradient_checkpointing
        with taps(
            self.transformer,
            LAYOUT,
            capture=capture,
            features=features,
            stop_early=stop_early,
            key_value=key_value,
        ) as recording:
            try:
                self._tapped = True
                if checkpointing:
                    self.transformer.enable_gradient_checkpointing()
                yield recording
            finally:
                self._tapped, self.transformer.gradient_checkpointing = False, was

    def schedule(
        self, steps: int, guidance_scale: float = 7.0, guidance: GuidanceKind | None = None
    ) -> DenoisingSchedule:
        trained = self.scheduler.config.num_train_timesteps
        if not 1 <= steps <= trained:
            raise ModelError(
                f"{steps} denoising steps were asked for; {self.spec.name!r} can take 1 to {trained}."
            )
        self.scheduler.set_timesteps(steps)
        return DenoisingSchedule(
            tuple(self.scheduler.timesteps.tolist()),
            guidance_scale,
            guidance if guidance is not None else self.spec.guidance,
        )

    @property
    def weights(self) -> int:
        return sum(parameter.numel() for parameter in self.transformer.parameters())

    @property
    def noise_levels(self) -> Tensor:
        return self._noise_levels

    def add_noise(self, latents: Tensor, noise: Tensor, timestep: int) -> Tensor:
        noised: Tensor = self.scheduler.add_noise(latents, noise, torch.tensor([timestep]))
        return noised

    def advance(
        self,
        output: Tensor,
        step: Step,
        latents: Tensor,
        previous_x0: Tensor | None,
        generators: Sequence[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        self.scheduler.set_timesteps(step.steps)
        if self.spec.scheduler == "CogVideoXDPMScheduler":
            before = step.previous if step.previous >= 0 else None
            following, x0 = self.scheduler.step(
                output, previous_x0, step.timestep, before, latents, generator=list(generators)
            )
        else:
            following, x0 = self.scheduler.step(output, step.timestep, latents, return_dict=False)
        return following, x0

    def _placed(
        self, latents: Tensor, text: Tensor, position: Tensor | None
    ) -> tuple[RotaryArgument, AbstractContextManager[None]]:
        """How a position enters a call: a rotary one as an argument that hooks take out again, a
        sinusoidal one through the patch embedding.
        """
        if self.spec.position == "sinusoidal":
            if text.shape[1] != self.spec.text_tokens:
                tokens = f"{self.spec.text_tokens} text tokens, not {text.shape[1]}"
                raise ModelError(
                    f"{self.spec.name!r} has sinusoidal positions and needs {tokens}. Make them with embed()."
                )
            return None, added_position(self.transformer.patch_embed, position)
        if position is None:
            cos, sin = self._rotary_table(self.spec.compression.grid_of(latents))[0, 0]
            return (cos, sin), nullcontext()
        if not self._tapped:
            raise ModelError(
                "a rotary position is applied by hooks: call predict inside `with backbone.tapped():`."
            )
        return position, nullcontext()

    def _rotary_table(self, grid: TokenGrid) -> Tensor:
        return rotary_tables(self._positions(grid), self.spec.head_dim)[
            None, None
        ]  # (1, 1, 2, N, D)

    def _sinusoidal_table(self, grid: TokenGrid) -> Tensor:
        """float32 (1, N, E)."""
        embed, patch, time = (
            self.transformer.patch_embed,
            self.spec.compression.patch,
            self.spec.compression.time,
        )
        joint: Tensor = embed._get_positional_embeddings(
            grid.height * patch, grid.width * patch, (grid.frames - 1) * time + 1, self.device
        )
        return joint[:, -grid.tokens :].float()

    def _positions(self, grid: TokenGrid) -> Tensor:
        """A grid of another size than the trained one is stretched into its middle, by whole tokens
        at the borders.
        """
        trained = self.spec.compression.grid(self.spec.size)
        start, stop = get_resize_crop_region_for_grid(
            (grid.height, grid.width), trained.width, trained.height
        )
        spans = (
            (0, grid.frames, grid.frames),
            (start[0], stop[0], grid.height),
            (start[1], stop[1], grid.width),
        )
        axes = (
            torch.linspace(first, last * (count - 1) / count, count, device=self.device)
            for first, last, count in spans
        )
        return torch.cartesian_prod(*axes)


def _config(part: Any, folder: str, subfolder: str) -> dict[str, Any]:
    """The configuration of a part. Raises ValueError where it lacks a size."""
    config = dict(part.load_config(folder, subfolder=subfolder))
    missing = [key for key in SIZES[subfolder] if key not in config]
    if missing:
        raise ValueError(f"its config.json has no {', '.join(missing)}")
    return config


def spec_of(
    name: str, transformer: Mapping[str, Any], vae: Mapping[str, Any], scheduler: str
) -> ModelSpec:
    """From the configurations of the parts. Raises ModelError for a variant that is not
    supported.
    """
    _check_supported(name, transformer, scheduler)
    heads, head_dim = transformer["num_attention_heads"], transformer["attention_head_dim"]
    space = 2 ** (len(vae["block_out_channels"]) - 1)
    compression = Compression(
        vae["temporal_compression_ratio"],
        space,
        transformer["patch_size"],
        transformer["in_channels"],
    )
    size = VideoSize(
        transformer["sample_frames"],
        transformer["sample_height"] * space,
        transformer["sample_width"] * space,
    )
    return ModelSpec(
        name=name,
        fingerprint=fingerprint(transformer),
        position="rotary" if transformer.get("use_rotary_positional_embeddings") else "sinusoidal",
        blocks=transformer["num_layers"],
        heads=heads,
        head_dim=head_dim,
        hidden=heads * head_dim,
        text_tokens=transformer["max_text_seq_length"],
        text_channels=transformer["text_embed_dim"],
        compression=compression,
        size=size,
        guidance=GUIDANCE[scheduler],
        scheduler=scheduler,
    )


def _check_supported(name: str, transformer: Mapping[str, Any], scheduler: str) -> None:
    if transformer.get("patch_size_t") is not None:
        raise ModelError(
            f"{name!r} is a CogVideoX 1.5, whose tokens span several frames (patch_size_t): not supported. Use {SUPPORTED}."
        )
    if (
        transformer.get("use_learned_positional_embeddings")
        or transformer["in_channels"] != transformer["out_channels"]
    ):
        raise ModelError(
            f"{name!r} is an image-to-video CogVideoX (learned positions, or an image as input): not supported. Use {SUPPORTED}."
        )
    if scheduler not in GUIDANCE:
        raise ModelError(f"{name!r} has a {scheduler}; supported: {', '.join(GUIDANCE)}.")
