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

from ditflow.bank import EntryError
from ditflow.compatibility import check_entry
from ditflow.core.sizes import Compression, TokenGrid, VideoSize
from ditflow.models import ModelError, ModelSpec, load_backbone
from ditflow.models.families.cogvideox import CogVideoX
from ditflow.models.presets import presets, recommended
from ditflow.transfer import inject_motion, transfer_motion
from tests.clips import clip_of
from tests.ditflow.bank.test_field_entry import make_field
from tests.ditflow.test_transfer import transferred
from tests.registry import (
    PROMPTS,
    TRANSFORMER,
    frames_of,
    image_of,
    tiny_backbone,
    tiny_folder,
    tiny_pipeline,
)

VAE = {"temporal_compression_ratio": 4, "block_out_channels": [8, 8, 8]}
LATER = (
    "use_rotary_positional_embeddings",
    "use_learned_positional_embeddings",
    "patch_size_t",
)  # keys that not every version of diffusers has written


PUBLISHED: dict[str, Any] = {  # of CogVideoX-5b
    **TRANSFORMER,
    "num_attention_heads": 48,
    "attention_head_dim": 64,
    "num_layers": 42,
    "in_channels": 16,
    "out_channels": 16,
    "sample_width": 90,
    "sample_height": 60,
    "sample_frames": 49,
    "max_text_seq_length": 226,
    "use_rotary_positional_embeddings": True,
}
OF_1_5 = {"sample_width": 170, "sample_height": 96, "sample_frames": 81, "patch_size_t": 2}
PICTURE = {"in_channels": 32}
DPM = "CogVideoXDPMScheduler"


def published(**changed: Any) -> ModelSpec:
    vae = VAE | {"block_out_channels": [128, 256, 256, 512]}
    return CogVideoX.spec_of("CogVideoX", PUBLISHED | changed, vae, DPM)


def test_the_published_backbone() -> None:
    spec = published()
    assert (spec.size, spec.hidden) == (VideoSize(49, 480, 720), 3072)
    assert (spec.compression, spec.picture) == (Compression(4, 8, 2, 16), "none")
    assert spec.compression.grid(spec.size).tokens == 17550


def test_the_published_image_to_video_backbone() -> None:
    """The picture's channels are no latents, and learned positions are for one size."""
    spec = published(**PICTURE, use_learned_positional_embeddings=True)
    assert (spec.picture, spec.size) == ("required", VideoSize(49, 480, 720))
    assert spec.compression == Compression(4, 8, 2, 16, only=spec.size)
    assert recommended(spec).guidance_scale == 6 and recommended(published()).guidance_scale == 7


@pytest.mark.parametrize(
    ("changed", "picture"), [({}, "none"), ({**PICTURE, "ofs_embed_dim": 512}, "required")]
)
def test_the_published_backbones_of_1_5(changed: dict[str, Any], picture: str) -> None:
    """Their configuration says how large a video may be. Frames are those that divide."""
    spec = published(**OF_1_5, **changed)
    assert (spec.picture, spec.size) == (picture, VideoSize(80, 768, 1360))
    assert spec.compression == Compression(4, 8, 2, 16, patch_time=2)
    assert spec.compression.grid(spec.size) == TokenGrid(10, 48, 85)
    (preset,) = (one for one in presets() if one.describes(vars(spec.compression) | vars(spec)))
    assert preset.checkpoint == "THUDM/CogVideoX1.5-5B" + ("-I2V" if changed else "")
    assert spec.fingerprint != published().fingerprint


@pytest.mark.parametrize(
    ("changed", "scheduler", "message"),
    [
        ({"in_channels": 12}, DPM, r"more than a text and a first picture \(it has 12 input chan"),
        (
            {"use_rotary_positional_embeddings": False, "use_learned_positional_embeddings": True},
            DPM,
            "learned positions alone, which cannot be moved: use one with rotary positions",
        ),
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


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("cogvideox-i2v", VideoSize(9, 32, 48)),
        ("cogvideox15", VideoSize(16, 32, 48)),
        ("cogvideox15", VideoSize(24, 16, 32)),
        ("cogvideox15-i2v", VideoSize(32, 24, 48)),
    ],
)
def test_rotary_tables_are_those_of_the_stock_pipeline(kind: str, size: VideoSize) -> None:
    """It makes them from the number of latent frames; those of 1.5 are whole numbers."""
    backbone, pipeline = tiny_backbone(kind), tiny_pipeline(kind)
    frames = backbone.spec.compression.latent_frames(size.frames)
    stock = pipeline._prepare_rotary_positional_embeddings(
        size.height, size.width, frames, torch.device("cpu")
    )
    own = backbone.stock_position(backbone.spec.compression.grid(size))[0, 0]
    torch.testing.assert_close(own, torch.stack(stock), rtol=0, atol=0)


def test_an_entry_of_another_patch_in_time_is_refused() -> None:
    """Before anything of it is used: its tokens are others."""
    kinds = ("rotary", "cogvideox15")
    entries = {kind: transferred(kind, "rotary_positions").entry for kind in kinds}
    for kind, other in (kinds, kinds[::-1]):
        with pytest.raises(EntryError, match="was optimised on '.*', not on '.*'. Load that back"):
            check_entry(tiny_backbone(other), entries[kind])


@pytest.mark.parametrize("frames", [9, 17, 18])
def test_frames_that_make_half_a_token_are_refused(frames: int) -> None:
    clip = clip_of(size=VideoSize(frames, 32, 48))
    with pytest.raises(ValueError, match=f"a video of {frames} frames .*[Uu]se 16"):
        transfer_motion(tiny_backbone("cogvideox15"), clip, "a cat", steps=2)


def test_a_size_without_learned_positions_is_refused() -> None:
    size, image = VideoSize(17, 32, 48), image_of("cogvideox-i2v")
    given = {"size": size, "image": image, "steps": 2}
    with pytest.raises(ValueError, match="17x32x48 .* learned those of one size: use 9x32x48"):
        inject_motion(tiny_backbone("cogvideox-i2v"), make_field(), "a cat", **given)


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
