"""Pretraining of the embedded backbone on the synthetic world: a transformer and a VAE of the stock
classes of CogVideoX.

    python -m trainers.pretraining.backbone fit --config configs/pretrain/vae.yaml
    python -m trainers.pretraining.backbone fit --config configs/pretrain/tiny-rope.yaml

Each run resumes from its last checkpoint. At its end it writes a folder in diffusers format.
"""

# B batch, F latent frames, C channels, L text tokens
from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from lightning.pytorch.cli import LightningCLI
from torch import Tensor, nn
from torch.nn import functional

from ditflow.models.registry import MODELS
from ditflow.models.taps import taps
from trainers.pretraining.correspondence import correspondence_loss, landing_distribution
from trainers.pretraining.schedules import scheduled
from trainers.pretraining.tiny import (
    TEXT_TOKENS,
    tiny_scheduler,
    tiny_text_encoder,
    tiny_transformer,
)

LAYOUT = MODELS[CogVideoXTransformer3DModel.__name__].layout


class TransformerPretraining(L.LightningModule):
    """v-prediction on latents of the world, with prompt dropout for classifier-free guidance.

    `vae` is the folder of the trained VAE, and `out` that of the finished pipeline. Training starts
    from the weights of the pipeline in `initial`, if given. Muon trains the matrices of the blocks,
    AdamW all other weights.
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
        with taps(self.transformer, LAYOUT, capture=self.correspondence_blocks) as recording:
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
        """Write the pipeline with this transformer to the folder `out`."""
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
