"""What is Wan's alone; the contract of all families is in test_model.py and test_taps.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline, WanPipeline
from PIL import Image
from torch import Tensor

from ditflow.core.sizes import Compression, TokenGrid, VideoSize
from ditflow.models import ModelError, load_backbone
from ditflow.models.families.wan import Wan
from ditflow.models.presets import recommended
from ditflow.sampling.state import clip_generator, initial_noise
from tests.closeness import assert_close_in_norm
from tests.guided import sampled
from tests.registry import (
    PROMPTS,
    SIZE,
    frames_of,
    tiny_backbone,
    tiny_folder,
)

TRANSFORMER: dict[str, Any] = {  # of Wan 2.1 T2V 1.3B
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "num_layers": 30,
    "patch_size": [1, 2, 2],
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
}
VAE = {"dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]}
EULER = "FlowMatchEulerDiscreteScheduler"
TI2V = ("wan22-5b", "wan22-5b-i2v")  # which may be shown a picture


def test_the_published_backbone() -> None:
    spec = Wan.spec_of("Wan", TRANSFORMER, VAE, "UniPCMultistepScheduler")
    assert (spec.hidden, spec.compression) == (1536, Compression(4, 8, 2, 16, first_alone=True))
    assert spec.compression.grid(spec.size).tokens == 32760


def test_the_published_backbones_of_2_2() -> None:
    """A14B is configured as the 14B of 2.1, but for its pipeline; the 5B has a VAE of its own."""
    wide = TRANSFORMER | {"num_attention_heads": 40, "num_layers": 40}
    single = Wan.spec_of("14B", wide, VAE, "UniPCMultistepScheduler")
    experts = Wan.with_options(single, {"boundary_ratio": 0.875, "expand_timesteps": False})
    assert (experts.boundary, experts.size) == (0.875, single.size)
    assert experts.fingerprint != single.fingerprint == Wan.with_options(single, {}).fingerprint
    presets = {spec: recommended(spec) for spec in (single, experts)}
    assert [advice.guidance_scale for advice in presets.values()] == [5.8, (4.0, 3.0)]

    small = {"num_attention_heads": 24, "in_channels": 48, "out_channels": 48}
    vae = VAE | {"patch_size": 2, "is_residual": True}
    spec = Wan.spec_of("5B", TRANSFORMER | small, vae, "UniPCMultistepScheduler")
    spec = Wan.with_options(spec, {"boundary_ratio": None, "expand_timesteps": True})
    assert spec.compression == Compression(4, 16, 2, 48, first_alone=True) and spec.token_timesteps
    assert spec.compression.grid(spec.size) == TokenGrid(31, 22, 40)
    with pytest.raises(ValueError, match="use multiples of 32, such as 704x1280"):
        spec.compression.grid(VideoSize(121, 720, 1280))


@pytest.mark.parametrize("tokens", [{"image_dim": 1280}, {"image_dim": None}])
def test_the_published_image_to_video_backbones(tokens: dict[str, Any]) -> None:
    """The picture's channels are no latents."""
    text = Wan.spec_of("Wan", TRANSFORMER, VAE, EULER)
    spec = Wan.spec_of("Wan", {**TRANSFORMER, **tokens, "in_channels": 36}, VAE, EULER)
    assert (text.picture, spec.picture) == ("none", "required")
    assert spec.compression == text.compression


def test_a_picture_is_beside_the_latents_or_in_them() -> None:
    spec = Wan.spec_of("Wan", {**TRANSFORMER, "in_channels": 36}, VAE, EULER)
    with pytest.raises(ModelError, match="'Wan' has expand_timesteps.* it is one or the other"):
        Wan.with_options(spec, {"expand_timesteps": True})


@pytest.mark.parametrize("pictured", [False, True])
@pytest.mark.parametrize("kind", TI2V)
def test_the_5b_with_and_without_a_picture_is_the_stock_pipeline(kind: str, pictured: bool) -> None:
    """From the same folder, which either pipeline may have saved. The video ends at the picture,
    whose tokens are told at each step that there is no noise in them.
    """
    folder, image = str(tiny_folder(kind)), frames_of(1)[0, 0]
    backbone, stock = load_backbone(folder, device="cpu"), WanPipeline
    own: dict[str, Any] = {}
    if pictured:
        stock = WanImageToVideoPipeline
        own = {"image": Image.fromarray(image.permute(1, 2, 0).numpy())}
    pipeline = stock.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    text, negative = backbone.embed(PROMPTS).split(1)
    generators = [clip_generator("x", 0)]
    noise = initial_noise(backbone.spec.compression.latent_shape(SIZE), generators)
    expected = pipeline(
        prompt_embeds=text,
        negative_prompt_embeds=negative,
        height=SIZE.height,
        width=SIZE.width,
        num_frames=SIZE.frames,
        num_inference_steps=5,
        guidance_scale=3.0,
        latents=noise.transpose(1, 2),
        output_type="latent",
        **own,
    ).frames.transpose(1, 2)
    told: list[Tensor] = []
    backbone.transformer.register_forward_pre_hook(
        lambda _, __, given: told.append(given["timestep"]), with_kwargs=True
    )
    picture = backbone.look(image[None], SIZE.frames) if pictured else None
    schedule = backbone.schedule(5, 3.0)
    latents = sampled(backbone, schedule, noise, text, negative, generators, picture=picture)
    assert_close_in_norm(latents, expected, relative=1e-5, largest=1e-4)
    tokens = backbone.spec.compression.grid(SIZE).tokens_per_frame
    for timestep, given in zip(schedule.timesteps, told[::2], strict=True):
        assert (given[0, tokens:] == timestep).all()
        assert (given[0, :tokens] == (0 if pictured else timestep)).all()
    if picture is not None:  # as many roundings of float32 as there are steps
        torch.testing.assert_close(latents[:, :1], picture.first, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "scheduler", "message"),
    [
        (
            {"in_channels": 32},
            EULER,
            r"more than a text and a first picture \(it has 32 input channels\)",
        ),
        (
            {"in_channels": 36, "pos_embed_seq_len": 514},
            EULER,
            r"more than a text and a first picture \(it has 36 input channels\)",
        ),
        ({}, "DDIMScheduler", f"has a DDIMScheduler; supported: UniPCMultistepScheduler, {EULER}"),
    ],
)
def test_other_variants_are_refused(changed: dict[str, Any], scheduler: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Wan.spec_of("one", {**TRANSFORMER, **changed}, VAE, scheduler)


def test_encoders_are_those_of_the_stock_pipeline() -> None:
    backbone, pipeline = tiny_backbone("wan"), WanPipeline.from_pretrained(tiny_folder("wan"))
    text, _ = pipeline.encode_prompt(
        PROMPTS, do_classifier_free_guidance=False, max_sequence_length=512
    )
    torch.testing.assert_close(backbone.embed(PROMPTS), text)
    config = pipeline.vae.config
    mean, deviation = (
        torch.tensor(values).view(1, -1, 1, 1, 1)
        for values in (config.latents_mean, config.latents_std)
    )
    pixels = frames_of().transpose(1, 2).float() / 127.5 - 1
    with torch.no_grad():
        stock = (pipeline.vae.encode(pixels).latent_dist.mode() - mean) / deviation
    # convolutions see one clip at a time here, two there
    latents = backbone.encode(frames_of())
    torch.testing.assert_close(latents, stock.transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_low_precision_keeps_what_the_stock_model_keeps_in_float32() -> None:
    backbone = load_backbone(str(tiny_folder("wan")), device="cpu", dtype=torch.bfloat16)
    kept = backbone.transformer._keep_in_fp32_modules
    for name, parameter in backbone.transformer.named_parameters():
        wide = any(part in name.split(".") for part in kept)
        assert parameter.dtype == (torch.float32 if wide else torch.bfloat16), name


def test_a_checkpoint_with_unipc_keeps_its_levels() -> None:
    """They are the scheduler's own, whole timesteps included."""
    backbone = tiny_backbone("wan")
    options = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    backbone.scheduler = UniPCMultistepScheduler(**options)
    schedule = backbone.schedule(10)
    backbone.scheduler.set_timesteps(10)
    assert schedule.timesteps == tuple(backbone.scheduler.timesteps.tolist())
    sigmas = backbone.scheduler.sigmas[:-1].tolist()
    assert [level.noise for level in schedule.levels] == sigmas


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("use_flow_sigmas", False),
        ("solver_order", 3),
        ("solver_type", "bh1"),
        ("prediction_type", "epsilon"),
    ],
)
def test_a_scheduler_that_steps_otherwise_is_refused(option: str, value: Any) -> None:
    model = tiny_backbone("wan")
    model.scheduler = UniPCMultistepScheduler(**{"use_flow_sigmas": True, option: value})
    with pytest.raises(ModelError, match=f"has {option} {value!r}, .* Save it with {option}="):
        model.schedule(4)


def test_the_levels_of_a_flow_add_up_to_one() -> None:
    model = tiny_backbone("wan")
    flow = {"prediction_type": "flow_prediction", "flow_shift": 3.0}
    model.scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, **flow)
    levels = model.schedule(4).levels
    assert all(abs(level.signal + level.noise - 1) < 1e-6 for level in levels)
