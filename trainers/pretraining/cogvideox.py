"""Pretraining of the embedded CogVideoX transformers."""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns, L text tokens
# E text channels
from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import Tensor

from trainers.pretraining.backbone import Noisy, TransformerPretraining
from trainers.pretraining.tiny import (
    tiny_scheduler,
    tiny_text_encoder,
    tiny_transformer,
)


class CogVideoXPretraining(TransformerPretraining):
    """v-prediction, with rotary (5B class) or sinusoidal (2B class) positions."""

    pipeline_class, vae_class = CogVideoXPipeline, AutoencoderKLCogVideoX

    def __init__(self, rotary: bool = True, **options: Any) -> None:
        super().__init__(
            transformer=tiny_transformer(rotary),
            text=tiny_text_encoder(),
            scheduler=tiny_scheduler(),
            **options,
        )
        config = self.transformer.config
        side = config.sample_height // config.patch_size
        frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
        self.rope = (
            get_3d_rotary_pos_embed(
                config.attention_head_dim, ((0, 0), (side, side)), (side, side), frames
            )
            if rotary
            else None
        )

    def noised(self, latents: Tensor) -> Noisy:
        noise = torch.randn_like(latents)
        trained = self.scheduler.config.num_train_timesteps
        timestep = torch.randint(0, trained, (len(latents),), device=self.device)
        noisy = self.scheduler.add_noise(latents, noise, timestep)
        return Noisy(noisy, timestep, self.scheduler.get_velocity(latents, noise, timestep))

    def predicted(self, noisy: Noisy, prompts: list[str]) -> Tensor:
        output: Tensor = self.transformer(
            hidden_states=noisy.latents,
            encoder_hidden_states=self.embed(prompts),
            timestep=noisy.timestep,
            image_rotary_emb=self.rope and tuple(table.to(self.device) for table in self.rope),
        ).sample
        return output

    def embed(self, prompts: list[str]) -> Tensor:
        """Text embeddings (B, L, E) as the stock pipeline makes them."""
        _, encoder = self.__dict__["text"]
        tokens = self.tokens(prompts).input_ids
        embedded: Tensor = encoder(tokens).last_hidden_state.to(self.device)
        return embedded
