"""Pretraining of the embedded VAEs."""

# B batch, C channels, T pixel frames, Y X pixel rows and columns
from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from diffusers import AutoencoderKLCogVideoX, AutoencoderKLWan
from torch import Tensor, nn

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


class TaughtVAEPretraining(L.LightningModule):
    """A Wan VAE that learns the latents of a trained CogVideoX VAE, in the folder `teacher`.

    A transformer trained on the latents of one works with the other. The decoder sees the latents
    of the teacher and of its own encoder in turn. The trained VAE is written to the folder `out`.
    """

    def __init__(
        self,
        teacher: str = "runs/pretrain/vae",
        out: str = "runs/pretrain/wan-vae",
        learning_rate: float = 2e-3,
        warmup: int = 50,
        flicker: float = 1.0,
    ) -> None:
        super().__init__()
        self.out, self.learning_rate, self.warmup = Path(out), learning_rate, warmup
        self.flicker, self.vae = flicker, tiny_wan_vae()
        teaching = AutoencoderKLCogVideoX.from_pretrained(teacher).float().eval()
        self.__dict__["teacher"] = teaching.requires_grad_(False)  # no part of a checkpoint

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        video, teacher = batch["video"], self.__dict__["teacher"].to(self.device)
        wanted = teacher.encode(video).latent_dist.mode() * teacher.config.scaling_factor
        latents = self.vae.encode(video).latent_dist.mode()
        missed = (latents - wanted).square().mean()
        own = torch.rand(len(video), 1, 1, 1, 1, device=self.device) < 0.5
        wrong = self.vae.decode(torch.where(own, latents, wanted)).sample - video
        error, flicker = wrong.square().mean(), wrong.diff(dim=2).square().mean()
        self.log_dict({"mse": error, "flicker": flicker, "missed": missed}, prog_bar=True)
        return error + self.flicker * flicker + missed

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.vae.parameters(), lr=self.learning_rate, weight_decay=0.0
        )
        return scheduled(optimizer, self.trainer.max_steps, self.warmup)

    def on_train_end(self) -> None:
        self.vae.save_pretrained(self.out)


def tiny_wan_vae() -> AutoencoderKLWan:
    """A Wan VAE that compresses as `tiny_vae` does, with next to no noise in its posterior."""
    vae = AutoencoderKLWan(
        base_dim=16,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        scale_factor_temporal=4,
        scale_factor_spatial=4,
    )
    nn.init.zeros_(vae.quant_conv.weight[LATENT_CHANNELS:])
    nn.init.constant_(vae.quant_conv.bias[LATENT_CHANNELS:], -10.0)
    return vae
