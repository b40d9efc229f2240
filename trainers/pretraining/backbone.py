"""Pretraining of the embedded backbone: a CogVideoX VAE and transformer of the stock diffusers
classes, small enough for a laptop, on the synthetic world.

    python -m trainers.pretraining.backbone fit --config configs/pretrain/vae.yaml
    python -m trainers.pretraining.backbone fit --config configs/pretrain/tiny-rope.yaml

Each run resumes from its last checkpoint and, at its end, writes an ordinary diffusers folder.
"""

# B batch, F latent frames, C channels, T pixel frames, Y X pixel rows and columns, L text tokens
from __future__ import annotations

import math
import string
from pathlib import Path
from typing import Any

import lightning as L
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from lightning.pytorch.cli import LightningCLI
from torch import Tensor, nn
from torch.nn import functional
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from datamodules.synthetic import PALETTES, SHAPES
from ditflow.models.taps import Layout, taps
from trainers.pretraining.correspondence import correspondence_loss, landing_distribution

CHANNELS = (16, 32, 32)
LATENT_CHANNELS = 8
TEXT_TOKENS, TEXT_CHANNELS = 16, 64


def tiny_vae() -> AutoencoderKLCogVideoX:
    """A CogVideoX VAE that compresses time and space by four: 25 x 64 x 64 pixels become 7 x 16 x
    16 latents of 8 channels.
    """
    levels = len(CHANNELS)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * levels,
        up_block_types=("CogVideoXUpBlock3D",) * levels,
        block_out_channels=CHANNELS,
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=4,
        sample_height=64,
        sample_width=64,
        temporal_compression_ratio=4,
    )


def tiny_transformer(rotary: bool, blocks: int = 8) -> CogVideoXTransformer3DModel:
    """A CogVideoX transformer of 128 channels on a token grid of 7 x 8 x 8, with rotary (5B class)
    or sinusoidal (2B class) positions.
    """
    return CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        time_embed_dim=128,
        text_embed_dim=TEXT_CHANNELS,
        num_layers=blocks,
        sample_width=16,
        sample_height=16,
        sample_frames=25,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=TEXT_TOKENS,
        use_rotary_positional_embeddings=rotary,
    )


def tiny_text_encoder() -> tuple[T5Tokenizer, T5EncoderModel]:
    """A tokenizer of the world's words and a frozen random T5: all that the transformer needs is
    that different words look different.
    """
    words = ("a", "over", "clouds", *PALETTES, *SHAPES)
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [("▁" + word, -3.0) for word in words] + [
        (character, -6.0) for character in characters
    ]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=TEXT_TOKENS)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_CHANNELS,
        d_kv=16,
        d_ff=64,
        num_layers=1,
        num_heads=4,
        dropout_rate=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = T5EncoderModel(config).eval().requires_grad_(False)
        order = encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        nn.init.normal_(
            order,
            std=8.0,
            # as T5 begins, "a red disc over blue clouds" and "a blue disc over red clouds" are all but
            # the same
        )
        return tokenizer, encoder


def tiny_scheduler() -> CogVideoXDDIMScheduler:
    return CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def cosine_decay(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then half a cosine down to a
    hundredth.
    """
    if step < warmup:
        return (step + 1) / warmup
    return (
        0.01
        + 0.99 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup)))) / 2
    )


class VAEPretraining(L.LightningModule):
    """Reconstruction of clips with a light pull of the posterior to a standard normal.

    `out` is the folder that the trained VAE is written to; its `scaling_factor` makes the latents'
    standard deviation 1.
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
        # start with little posterior noise: with the usual unit noise nothing is learned for
        # hundreds of steps
        with torch.no_grad():
            self.vae.encoder.conv_out.conv.bias[LATENT_CHANNELS:] = -5.0
        if (
            initial is not None
        ):  # refine the decoder of a trained one: its latents stay what they are
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


class TransformerPretraining(L.LightningModule):
    """v-prediction on latents of the world, with prompt dropout for classifier-free guidance.

    `vae` is the folder of the trained VAE, `out` the folder of the finished pipeline. `initial`, a
    folder of a trained pipeline, gives the starting weights. Matrices of the blocks are trained by
    Muon, everything else by AdamW.
    """

    def __init__(
        self,
        rotary: bool = True,
        vae: str = "runs/pretrain/vae",
        out: str = "checkpoints/tiny-rope",
        initial: str | None = None,
        learning_rate: float = 2e-3,
        warmup: int = 100,
        prompt_dropout: float = 0.1,
        correspondence: float = 0.02,
        correspondence_blocks: tuple[int, ...] = (3, 5, 7),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.rotary, self.vae_folder, self.out = rotary, vae, Path(out)
        self.learning_rate, self.warmup, self.prompt_dropout = learning_rate, warmup, prompt_dropout
        self.correspondence, self.correspondence_blocks = correspondence, correspondence_blocks
        self.transformer = tiny_transformer(rotary)
        self.__dict__["text"] = tiny_text_encoder()
        if initial is not None:
            weights = CogVideoXTransformer3DModel.from_pretrained(
                initial, subfolder="transformer"
            ).state_dict()
            self.transformer.load_state_dict(weights)
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

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        latents = batch["latents"]  # (B, F, C, Hl, Wl)
        kept = torch.rand(len(latents)) >= self.prompt_dropout
        text = self.embed(
            [prompt if keep else "" for prompt, keep in zip(batch["prompt"], kept, strict=True)]
        )
        noise = torch.randn_like(latents)
        timestep = torch.randint(
            0, self.scheduler.config.num_train_timesteps, (len(latents),), device=self.device
        )
        noisy = self.scheduler.add_noise(latents, noise, timestep)
        rope = self.rope and tuple(table.to(self.device) for table in self.rope)
        with taps(self.transformer, Layout(), capture=self.correspondence_blocks) as recording:
            predicted = self.transformer(
                hidden_states=noisy,
                encoder_hidden_states=text,
                timestep=timestep,
                image_rotary_emb=rope,
            ).sample
        loss = functional.mse_loss(
            predicted.float(), self.scheduler.get_velocity(latents, noise, timestep)
        )
        target = landing_distribution(
            batch["landing"], latents.shape[-1] // self.transformer.config.patch_size
        )
        missed = [
            correspondence_loss(recording.query[i], recording.key[i], target, batch["seen"])
            for i in self.correspondence_blocks
        ]
        self._update(loss + self.correspondence * sum(missed))
        self.log("loss", loss, prog_bar=True)
        self.log_dict(
            {
                f"missed_{block}": value
                for block, value in zip(self.correspondence_blocks, missed, strict=True)
            }
        )

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
        return encoder(tokens).last_hidden_state.to(self.device)

    def _update(self, loss: Tensor) -> None:
        optimizers, schedules = self.optimizers(), self.lr_schedulers()
        self.manual_backward(loss)
        nn.utils.clip_grad_norm_(self.transformer.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

    def configure_optimizers(self) -> Any:
        named = [
            (name, weight)
            for name, weight in self.transformer.named_parameters()
            if weight.requires_grad
        ]
        matrices = [
            weight
            for name, weight in named
            if weight.ndim == 2 and name.startswith("transformer_blocks")
        ]
        chosen = {id(weight) for weight in matrices}
        rest = [weight for _, weight in named if id(weight) not in chosen]
        muon = torch.optim.Muon(
            matrices, lr=self.learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        )
        adam = torch.optim.AdamW(rest, lr=self.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
        steps = self.trainer.max_steps // 2  # Lightning counts a step of each of the two optimizers
        plans = [scheduled(optimizer, steps, self.warmup) for optimizer in (muon, adam)]
        return [plan["optimizer"] for plan in plans], [plan["lr_scheduler"] for plan in plans]

    def on_train_end(self) -> None:
        self.export(self.transformer.half())

    def export(self, transformer: CogVideoXTransformer3DModel) -> None:
        """Write the pipeline: transformer in half precision, the VAE, the text encoder and its
        tokenizer.
        """
        tokenizer, text_encoder = self.__dict__["text"]
        vae = AutoencoderKLCogVideoX.from_pretrained(self.vae_folder)
        vae.register_to_config(_name_or_path="")  # where it was trained is nobody's business
        pipeline = CogVideoXPipeline(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            scheduler=self.scheduler,
        )
        pipeline.save_pretrained(self.out)


def scheduled(optimizer: torch.optim.Optimizer, steps: int, warmup: int) -> dict[str, Any]:
    """What Lightning wants of `configure_optimizers`: the optimizer with `cosine_decay` at every
    step.
    """
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine_decay(step, steps, warmup)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main() -> None:
    torch.multiprocessing.set_sharing_strategy("file_system")
    LightningCLI(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_callback=None,
    )


if __name__ == "__main__":
    main()
