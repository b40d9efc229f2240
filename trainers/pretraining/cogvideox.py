"""Pretraining of the embedded CogVideoX transformers."""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns, L text tokens
# E text channels
from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import Tensor, nn

from trainers.pretraining.backbone import Noisy, TransformerPretraining
from trainers.pretraining.tiny import (
    TEXT_TOKENS,
    tiny_scheduler,
    tiny_text_encoder,
    tiny_transformer,
)


class CogVideoXPretraining(TransformerPretraining):
    """v-prediction, with rotary (5B class) or sinusoidal (2B class) positions."""

    def __init__(self, rotary: bool = True, **options: Any) -> None:
        super().__init__(transformer=tiny_transformer(rotary), **options)
        self.__dict__["text"] = tiny_text_encoder()
        config = self.transformer.config
        self.scheduler = tiny_scheduler()
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
        tokenizer, encoder = self.__dict__["text"]
        tokens = tokenizer(
            prompts,
            padding="max_length",
            max_length=TEXT_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        embedded: Tensor = encoder(tokens).last_hidden_state.to(self.device)
        return embedded

    def export(self, transformer: nn.Module) -> None:
        tokenizer, text_encoder = self.__dict__["text"]
        vae = AutoencoderKLCogVideoX.from_pretrained(self.vae_folder)
        vae.register_to_config(_name_or_path="")  # do not publish a local path
        pipeline = CogVideoXPipeline(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            scheduler=self.scheduler,
        )
        pipeline.save_pretrained(self.out)
