"""What is CogVideoX's alone; the contract of all families is in test_model.py."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CogVideoXPipeline

from ditflow.core.sizes import Compression, VideoSize
from ditflow.models import ModelError, load_backbone
from ditflow.models.families.cogvideox import CogVideoX
from tests.registry import PROMPTS, TRANSFORMER, frames_of, tiny_backbone, tiny_folder

VAE = {"temporal_compression_ratio": 4, "block_out_channels": [8, 8, 8]}
LATER = (
    "use_rotary_positional_embeddings",
    "use_learned_positional_embeddings",
    "patch_size_t",
)  # keys that not every version of diffusers has written


def test_the_published_backbones() -> None:
    config = {
        **TRANSFORMER,
        "num_attention_heads": 48,
        "attention_head_dim": 64,
        "num_layers": 42,
        "in_channels": 16,
        "out_channels": 16,
    }
    config |= {
        "sample_width": 90,
        "sample_height": 60,
        "sample_frames": 49,
        "max_text_seq_length": 226,
        "use_rotary_positional_embeddings": True,
    }
    spec = CogVideoX.spec_of(
        "THUDM/CogVideoX-5b",
        config,
        {**VAE, "block_out_channels": [128, 256, 256, 512]},
        "CogVideoXDPMScheduler",
    )
    assert (spec.size, spec.hidden, spec.compression) == (
        VideoSize(49, 480, 720),
        3072,
        Compression(4, 8, 2, 16),
    )
    assert spec.compression.grid(spec.size).tokens == 17550


@pytest.mark.parametrize(
    ("changed", "scheduler", "message"),
    [
        (
            {"patch_size_t": 2},
            "CogVideoXDPMScheduler",
            "CogVideoX 1.5.*Use a text-to-video CogVideoX 1.0",
        ),
        ({"use_learned_positional_embeddings": True}, "CogVideoXDPMScheduler", "image-to-video"),
        ({"in_channels": 8}, "CogVideoXDPMScheduler", "image-to-video"),
        (
            {},
            "DDIMScheduler",
            "has a DDIMScheduler; supported: CogVideoXDDIMScheduler, CogVideoXDPMScheduler",
        ),
    ],
)
def test_other_variants_are_refused(changed: dict[str, Any], scheduler: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        CogVideoX.spec_of(
            "one",
            {**TRANSFORMER, "use_rotary_positional_embeddings": True, **changed},
            VAE,
            scheduler,
        )


def test_a_configuration_from_before_there_were_rotary_positions(tmp_path: Path) -> None:
    """diffusers 0.30.0 wrote no such key; its default is what was meant."""
    folder = Path(shutil.copytree(tiny_folder("sinusoidal"), tmp_path / "backbone"))
    file = folder / "transformer" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in config.items() if key not in LATER}))
    assert set(LATER) <= set(config)
    older, backbone = load_backbone(str(folder), device="cpu"), tiny_backbone("sinusoidal")
    assert older.spec.fingerprint == backbone.spec.fingerprint
    assert replace(older.spec, name="", saved_fingerprint="") == replace(
        backbone.spec, name="", saved_fingerprint=""
    )
    latents, text = torch.randn(1, 3, 4, 8, 12), torch.randn(1, 16, 32)
    torch.testing.assert_close(
        older.predict(latents, 500, text), backbone.predict(latents, 500, text), rtol=0, atol=0
    )


def test_noise_levels_stay_on_the_cpu() -> None:
    """diffusers moves its own to the device of the latents that it adds noise to."""
    backbone = tiny_backbone("rotary")
    before = backbone.level(400)
    backbone.scheduler.alphas_cumprod = backbone.scheduler.alphas_cumprod.to("meta")
    assert backbone.level(400) == before


@pytest.mark.parametrize("timestep", [0, 1, 400, 998, 999])
def test_noise_is_mixed_in_as_the_scheduler_does_bit_by_bit(timestep: int) -> None:
    backbone, (clean, noise) = tiny_backbone("rotary"), torch.randn(2, 100)
    wanted = backbone.scheduler.add_noise(clean, noise, torch.tensor([timestep]))
    torch.testing.assert_close(backbone.level(timestep).mix(clean, noise), wanted, rtol=0, atol=0)


def test_encoders_are_those_of_the_stock_pipeline() -> None:
    backbone, pipeline = (
        tiny_backbone("rotary"),
        CogVideoXPipeline.from_pretrained(tiny_folder("rotary")),
    )
    torch.testing.assert_close(
        backbone.embed(PROMPTS),
        pipeline.encode_prompt(PROMPTS, max_sequence_length=16, do_classifier_free_guidance=False)[
            0
        ],
    )
    latents = backbone.encode(frames_of())
    video = pipeline.video_processor.postprocess_video(
        pipeline.decode_latents(latents).detach(), output_type="np"
    )
    decoded, stock = backbone.decode(latents), torch.from_numpy((video * 255).round())
    off = (decoded.float() - stock.permute(0, 1, 4, 2, 3)).abs()
    # convolutions add in another order: a value that lies between two whole ones to seven digits is
    # rounded to either, of which there is about one among a million
    assert off.max() <= 1 and off.count_nonzero() <= 3


def test_published_timesteps_whatever_was_asked_before() -> None:
    backbone = tiny_backbone("rotary")
    schedule = backbone.schedule(50)
    assert (
        schedule.timesteps == tuple(range(999, 0, -20)) and schedule.guidance == "dynamic_timestep"
    )
    latents, output = torch.randn(2, 1, 3, 4, 8, 12)
    given = output, schedule[3], latents, latents[:, None]  # the last one is what is remembered
    expected = backbone.advance(*given, [torch.Generator().manual_seed(0)])
    backbone.schedule(7)  # another schedule in between changes nothing
    torch.testing.assert_close(
        backbone.advance(*given, [torch.Generator().manual_seed(0)]),
        expected,
        rtol=0,
        atol=0,
    )


def test_sinusoidal_positions_need_all_text_tokens() -> None:
    with pytest.raises(ModelError, match="needs 16 text tokens, not 5. Make them with embed"):
        tiny_backbone("sinusoidal").predict(torch.randn(1, 3, 4, 8, 12), 500, torch.randn(1, 5, 32))
