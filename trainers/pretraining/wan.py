"""Pretraining of the embedded Wan: flow matching, with text in cross-attention."""

# B batch, F latent frames, C channels, Hl Wl latent rows and columns, L text tokens
# E text channels
from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from trainers.pretraining.backbone import Noisy, TransformerPretraining
from trainers.pretraining.carried import carried
from trainers.pretraining.tiny import (
    LATENT_CHANNELS,
    TEXT_CHANNELS,
    TEXT_TOKENS,
    TEXT_WIDTHS,
    tiny_tokenizer,
    told_apart,
)

SHIFT = 3.0  # of the noise levels, as published for 480p
STOCK_TEXT_TOKENS = 512  # that the pipeline pads a prompt to


def tiny_transformer(blocks: int = 8) -> WanTransformer3DModel:
    """A Wan transformer of 128 channels on a token grid of 7 x 8 x 8."""
    return WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_CHANNELS,
        freq_dim=128,
        ffn_dim=512,
        num_layers=blocks,
        rope_max_seq_len=64,
    )


def tiny_text_encoder() -> tuple[Any, UMT5EncoderModel]:
    """A tokenizer of the world's words and a frozen random UMT5."""
    tokenizer = tiny_tokenizer(STOCK_TEXT_TOKENS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer), **TEXT_WIDTHS))
        return tokenizer, told_apart(encoder)


class WanPretraining(TransformerPretraining):
    """Prediction of the flow at the noise levels that sampling passes through.

    It begins with the weights of the CogVideoX pipeline in `carried_from`, if given.
    """

    pipeline_class, vae_class, vae_dtype = WanPipeline, AutoencoderKLWan, torch.float16

    def __init__(self, carried_from: str | None = None, **options: Any) -> None:
        super().__init__(
            transformer=tiny_transformer(),
            text=tiny_text_encoder(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
            **options,
        )
        if carried_from is not None:
            if options.get("initial") is not None:
                raise ValueError("give initial or carried_from: training begins with one of them.")
            old = CogVideoXTransformer3DModel.from_pretrained(carried_from, subfolder="transformer")
            carried(old.float(), self.transformer)
        self._counts: Tensor | None = None
        for block in self.transformer.blocks:
            block.attn2.register_forward_pre_hook(self._count)

    def noised(self, latents: Tensor) -> Noisy:
        noise = torch.randn_like(latents)
        level = torch.rand(len(latents), device=self.device)
        level = SHIFT * level / (1 + (SHIFT - 1) * level)
        share = level[:, None, None, None, None]
        noisy = (1 - share) * latents + share * noise
        timestep = level * self.scheduler.config.num_train_timesteps
        return Noisy(noisy, timestep, noise - latents)

    def predicted(self, noisy: Noisy, prompts: list[str]) -> Tensor:
        text, self._counts = self.embed(prompts)
        output: Tensor = self.transformer(
            hidden_states=noisy.latents.transpose(1, 2),
            encoder_hidden_states=text,
            timestep=noisy.timestep,
        ).sample
        return output.transpose(1, 2)

    def embed(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Text embeddings (B, L, E), and the logarithm of how many tokens each stands for (B, L).

        The stock pipeline pads a prompt by zeros to many tokens. These are all alike, so that a
        few of them, each counted several times, are as good.
        """
        _, encoder = self.__dict__["text"]
        tokens = self.tokens(prompts)
        mask = tokens.attention_mask
        embedded = encoder(tokens.input_ids, attention_mask=mask).last_hidden_state
        hidden = 1 - mask
        missing = STOCK_TEXT_TOKENS - TEXT_TOKENS
        counts = 1 + hidden * missing / hidden.sum(1, keepdim=True).clamp(min=1)
        return (embedded * mask[..., None]).to(self.device), counts.log().to(self.device)

    def _count(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Cross-attention to text tokens that count several times."""
        hidden, text, *rest = args
        assert self._counts is not None
        return hidden, text, self._counts[:, None, None].to(hidden.dtype), *rest[1:]
