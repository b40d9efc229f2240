"""What the embedded Wan begins with, and how it is shown its prompts."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import CogVideoXTransformer3DModel, WanPipeline
from torch import nn

from datamodules.synthetic import World
from ditflow.models import load_backbone
from ditflow.sampling.control import Prompt
from ditflow.sampling.loop import sample
from ditflow.sampling.state import start
from trainers.pretraining.backbone import Noisy
from trainers.pretraining.carried import PAIRS, carried
from trainers.pretraining.tiny import tiny_transformer as cogvideox
from trainers.pretraining.wan import STOCK_TEXT_TOKENS, WanPretraining, tiny_transformer

ROOT = Path(__file__).resolve().parents[3]
PROMPTS = ["a red disc over blue clouds", ""]


@torch.no_grad()
def test_few_tokens_that_count_are_as_good_as_the_many_of_the_stock_pipeline() -> None:
    """Cross-attention adds up equal tokens: one with the weight of n is as good as n of them."""
    torch.manual_seed(0)
    training = WanPretraining(vae="", out="")
    noisy = Noisy(torch.randn(2, 3, 8, 8, 8), torch.tensor([900.0, 400.0]), torch.zeros(()))
    few = training.predicted(noisy, PROMPTS)
    tokenizer, encoder = training.__dict__["text"]
    options = {"padding": "max_length", "max_length": STOCK_TEXT_TOKENS, "return_tensors": "pt"}
    tokens = tokenizer(PROMPTS, **options)
    text = encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    for block in training.transformer.blocks:
        block.attn2._forward_pre_hooks.clear()
    many = training.transformer(
        hidden_states=noisy.latents.transpose(1, 2),
        encoder_hidden_states=text * tokens.attention_mask[..., None],
        timestep=noisy.timestep,
    ).sample.transpose(1, 2)
    torch.testing.assert_close(few, many, rtol=0, atol=1e-4)  # of a deviation near 1, in float32
    assert not torch.allclose(few[0], few[1], atol=1e-2)


def test_each_pair_of_channels_is_carried_over_once() -> None:
    assert sorted(PAIRS) == list(range(16))


@torch.no_grad()
def test_attention_without_a_place_is_carried_over_exactly() -> None:
    """Queries and keys of a token, before they are turned, agree in every product."""
    torch.manual_seed(0)
    old, new = cogvideox(rotary=True, blocks=2), tiny_transformer(blocks=2)
    before = old.transformer_blocks[1].attn1
    for norm in (before.norm_q, before.norm_k):
        nn.init.uniform_(norm.weight, 0.5, 2.0)
    after = carried(old, new).blocks[1].attn1
    token = torch.randn(5, 128)
    wanted, came = torch.ones(()), torch.ones(())
    for side in "qk":
        norm, layer = getattr(before, f"norm_{side}"), getattr(before, f"to_{side}")
        wanted = wanted * norm(layer(token).unflatten(-1, (4, 32)))
        projected = getattr(after, f"to_{side}")(token)
        normed = getattr(after, f"norm_{side}")(projected).unflatten(-1, (4, 32))
        # the new norm is over all heads: a head keeps its own size, which the old one takes out
        size = projected.unflatten(-1, (4, 32)).square().mean(-1, True).sqrt()
        came = came * normed * projected.square().mean(-1)[:, None, None].sqrt() / size
    torch.testing.assert_close(came.sum(-1), wanted.sum(-1), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_what_is_carried_over_denoises_before_any_training() -> None:
    """The flow that it predicts of a clip points the right way, which untrained weights do not."""
    torch.manual_seed(0)
    latents = load_backbone("tiny-rope").encode(World().clip(3).frames[None])
    old = CogVideoXTransformer3DModel.from_pretrained(
        ROOT / "checkpoints" / "tiny-rope", subfolder="transformer"
    ).float()
    noise, share = torch.randn_like(latents), 0.5
    shown = {
        "hidden_states": ((1 - share) * latents + share * noise).transpose(1, 2),
        "encoder_hidden_states": torch.zeros(1, 16, 64),
        "timestep": torch.tensor([1000 * share]),
    }
    flow = (noise - latents).flatten()
    for transformer, low, high in (
        (tiny_transformer(), -0.3, 0.3),
        (carried(old, tiny_transformer()), 0.5, 1.0),
    ):
        made = transformer(**shown).sample.transpose(1, 2).flatten()
        assert low < torch.cosine_similarity(made, flow, dim=0) < high


@torch.no_grad()
def test_the_model_that_ships_is_shown_its_prompts_as_it_was_trained_with() -> None:
    """By the encoder of the training, in half precision, with zeros up to the stock length."""
    embedded = load_backbone("tiny-wan").embed(PROMPTS)
    few, counts = WanPretraining(vae="", out="").embed(PROMPTS)
    torch.testing.assert_close(embedded[:, : few.shape[1]], few, rtol=0, atol=2e-2)
    assert embedded.shape[1] == STOCK_TEXT_TOKENS and not embedded[:, few.shape[1] :].any()
    torch.testing.assert_close(counts.exp().sum(1), torch.full((2,), 512.0))


@torch.no_grad()
def test_the_stock_pipeline_makes_the_same_video() -> None:
    model = load_backbone("tiny-wan")
    pipeline = WanPipeline.from_pretrained(ROOT / "checkpoints" / "tiny-wan", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    schedule, size = model.schedule(4, 1.5), model.spec.size
    state = start(model, size, ["red"], [0])
    text, negative = model.embed(["red clouds"]), model.embed([""])
    made = sample(model, schedule, Prompt(text, negative), state).latents
    stock = pipeline(
        prompt_embeds=text,
        negative_prompt_embeds=negative,
        num_frames=size.frames,
        height=size.height,
        width=size.width,
        num_inference_steps=4,
        guidance_scale=1.5,
        latents=state.latents.transpose(1, 2).clone(),
        output_type="latent",
    ).frames.transpose(1, 2)
    torch.testing.assert_close(made, stock, rtol=0, atol=1e-4)  # of latents near 1, in float32
