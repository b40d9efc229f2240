"""Pretraining of the embedded backbones on the synthetic world: transformers and VAEs of the stock
classes of diffusers.

    python -m trainers.pretraining.backbone fit --config configs/pretrain/vae.yaml
    python -m trainers.pretraining.backbone fit --config configs/pretrain/tiny-rope.yaml

Each run resumes from its last checkpoint. At its end it writes a folder in diffusers format.
"""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns
from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI
from torch import Tensor, nn
from torch.nn import functional

from ditflow.models.registry import MODELS
from ditflow.models.taps import taps
from trainers.pretraining.correspondence import correspondence_loss, landing_distribution
from trainers.pretraining.schedules import scheduled
from trainers.pretraining.tiny import TEXT_TOKENS


class Noisy(NamedTuple):
    """Noised latents (B, F, C, Hl, Wl), the time step of each (B,), and what is to be predicted."""

    latents: Tensor
    timestep: Tensor
    target: Tensor


class TransformerPretraining(L.LightningModule):
    """Denoising of latents of the world, with prompt dropout for classifier-free guidance.

    A family makes its parts, names the classes of its pipeline and VAE, and overrides `noised` and
    `predicted`. `text` is a tokenizer and a frozen encoder. `vae` is the folder of the trained VAE,
    and `out` that of the finished pipeline. Training starts from the weights of
    the pipeline in `initial`, if given. Muon trains the matrices of the blocks, AdamW all other
    weights.
    """

    pipeline_class: ClassVar[Any]
    vae_class: ClassVar[Any]
    vae_dtype: ClassVar[torch.dtype] = torch.float32

    def __init__(
        self,
        transformer: nn.Module,
        text: tuple[Any, Any],
        scheduler: Any,
        vae: str,
        out: str,
        initial: str | None = None,
        learning_rate: float = 2e-3,
        warmup: int = 100,
        prompt_dropout: float = 0.1,
        correspondence: float = 0.02,
        correspondence_blocks: tuple[int, ...] = (3, 5, 7),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.__dict__["text"], self.scheduler = text, scheduler  # no part of a checkpoint
        self.vae_folder, self.out = vae, Path(out)
        self.learning_rate, self.warmup, self.prompt_dropout = learning_rate, warmup, prompt_dropout
        self.correspondence, self.correspondence_blocks = correspondence, correspondence_blocks
        self.transformer: Any = transformer
        self.layout = MODELS[type(transformer).__name__].layout
        if initial is not None:
            trained = type(self.transformer).from_pretrained(initial, subfolder="transformer")
            self.transformer.load_state_dict(trained.state_dict())

    @abstractmethod
    def noised(self, latents: Tensor) -> Noisy:
        """Latents at random noise levels."""

    @abstractmethod
    def predicted(self, noisy: Noisy, prompts: list[str]) -> Tensor:
        """What the transformer makes of noised latents, as the stock pipeline calls it."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        latents = batch["latents"]  # (B, F, C, Hl, Wl)
        kept = torch.rand(len(latents)) >= self.prompt_dropout
        prompts = [p if keep else "" for p, keep in zip(batch["prompt"], kept, strict=True)]
        noisy = self.noised(latents)
        with taps(self.transformer, self.layout, capture=self.correspondence_blocks) as recording:
            predicted = self.predicted(noisy, prompts)
        loss = functional.mse_loss(predicted.float(), noisy.target)
        target = landing_distribution(batch["landing"], batch["side"])
        missed = [
            correspondence_loss(recording.query[i], recording.key[i], target, batch["seen"])
            for i in self.correspondence_blocks
        ]
        self._update(loss + self.correspondence * sum(missed))
        self.log("loss", loss, prog_bar=True)
        named = zip(self.correspondence_blocks, missed, strict=True)
        self.log_dict({f"missed_{block}": value for block, value in named})

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
            if weight.ndim == 2 and name.startswith(self.layout.blocks)
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

    def tokens(self, prompts: list[str]) -> Any:
        """Of prompts, padded to a few."""
        tokenizer, _ = self.__dict__["text"]
        return tokenizer(
            prompts,
            padding="max_length",
            max_length=TEXT_TOKENS,
            truncation=True,
            return_tensors="pt",
        )

    def on_train_end(self) -> None:
        self.export(self.transformer.half())

    def export(self, transformer: nn.Module) -> None:
        """Write the pipeline with this transformer to the folder `out`."""
        tokenizer, text_encoder = self.__dict__["text"]
        vae = self.vae_class.from_pretrained(self.vae_folder, dtype=self.vae_dtype)
        vae.register_to_config(_name_or_path="")  # do not publish a local path
        pipeline = self.pipeline_class(
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
