"""Pretraining of the embedded VAE."""

# B batch, C channels, T pixel frames, Y X pixel rows and columns
from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor

from trainers.pretraining.schedules import scheduled
from trainers.pretraining.tiny import LATENT_CHANNELS, tiny_vae


class VAEPretraining(L.LightningModule):
    """Reconstruction of clips, with a small weight on the divergence from a standard normal.

    The trained VAE is written to the folder `out`, with a `scaling_factor` that makes the standard
    deviation of latents 1. With `initial`, the folder of a trained VAE, only its decoder is trained
    further, so that latents stay the same.
    """

    def __init__(
        self,
        out: str = "runs/pretrain/vae",
        learning_rate: float = 2e-3,
        kl_weight: float = 1e-4,
        warmup: int = 50,
        initial: str | None = None,
        flicker: float = 0.0,
    ) -> None:
        super().__init__()
        self.initial, self.flicker = initial, flicker
        self.out, self.learning_rate, self.kl_weight, self.warmup = (
            Path(out),
            learning_rate,
            kl_weight,
            warmup,
        )
        self.vae = tiny_vae()
        # start with little posterior noise: unit noise would prevent learning for hundreds of steps
        with torch.no_grad():
            self.vae.encoder.conv_out.conv.bias[LATENT_CHANNELS:] = -5.0
        if initial is not None:
            self.vae = AutoencoderKLCogVideoX.from_pretrained(initial)
            self.vae.encoder.requires_grad_(False)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        video = batch["video"]  # (B, C, T, Y, X) in [-1, 1]
        posterior = self.vae.encode(video).latent_dist
        wrong = self.vae.decode(posterior.sample()).sample.float() - video
        error, flicker = wrong.square().mean(), wrong.diff(dim=2).square().mean()
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        self.log_dict(
            {
                "mse": error,
                "flicker": flicker,
                "kl": divergence,
                "latent_std": posterior.mean.float().std(),
            },
            prog_bar=True,
        )
        return error + self.flicker * flicker + self.kl_weight * divergence

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.vae.parameters(), lr=self.learning_rate, weight_decay=0.0
        )
        return scheduled(optimizer, self.trainer.max_steps, self.warmup)

    def on_train_end(self) -> None:
        if self.initial is None:
            batch = next(iter(self.trainer.train_dataloader))["video"].to(self.device)
            with torch.no_grad():
                self.vae.register_to_config(
                    scaling_factor=float(1 / self.vae.encode(batch).latent_dist.mode().std())
                )
        self.vae.save_pretrained(self.out)
