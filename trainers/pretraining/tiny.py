"""The parts of an embedded backbone, untrained: stock classes of diffusers and transformers, small
enough for a laptop.
"""

# L text tokens, E text channels
from __future__ import annotations

import string
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXTransformer3DModel,
)
from torch import nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from datamodules.synthetic import PALETTES, SHAPES

CHANNELS = (16, 32, 32)
LATENT_CHANNELS = 8
TEXT_TOKENS, TEXT_CHANNELS = 16, 64
TEXT_WIDTHS: dict[str, Any] = {
    "d_model": TEXT_CHANNELS,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 1,
    "num_heads": 4,
    "dropout_rate": 0.0,
}


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


def tiny_tokenizer(tokens: int = TEXT_TOKENS) -> T5Tokenizer:
    """A tokenizer of the world's words."""
    words = ("a", "over", "clouds", *PALETTES, *SHAPES)
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [("▁" + word, -3.0) for word in words] + [
        (character, -6.0) for character in characters
    ]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=tokens)


def tiny_text_encoder() -> tuple[T5Tokenizer, T5EncoderModel]:
    """The tokenizer and a frozen random T5."""
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = T5EncoderModel(T5Config(vocab_size=len(tokenizer), **TEXT_WIDTHS))
        return tokenizer, told_apart(encoder)


def told_apart(encoder: Any) -> Any:
    """A frozen random encoder in which the order of words matters.

    The transformer only needs that different words have different embeddings. With T5's own
    initialisation, "a red disc over blue clouds" and "a blue disc over red clouds" have almost the
    same ones.
    """
    for block in encoder.encoder.block:
        order = block.layer[0].SelfAttention
        if order.has_relative_attention_bias:
            nn.init.normal_(order.relative_attention_bias.weight, std=8.0)
    return encoder.eval().requires_grad_(False)


def tiny_scheduler() -> CogVideoXDDIMScheduler:
    return CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
        clip_sample=False,
    )
