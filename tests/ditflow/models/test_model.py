"""What every family of models promises: sizes, positions, levels, encoders, plain sampling."""

from __future__ import annotations

import pytest
import torch
from diffusers import CogVideoXDPMScheduler
from PIL import Image

from ditflow.core.schedule import Scale
from ditflow.core.sizes import Compression, VideoSize
from ditflow.models import ModelError, load_backbone
from ditflow.models.spec import fingerprint
from ditflow.sampling.state import initial_noise
from tests.closeness import assert_close_in_norm
from tests.families import family_of, likeliest
from tests.guided import sampled
from tests.registry import (
    BACKBONES,
    COGVIDEOX,
    PICTURED,
    PROMPTS,
    SIZE,
    WAN,
    frames_of,
    grid_of,
    picture_for,
    size_of,
    tiny_backbone,
    tiny_folder,
    tiny_pipeline,
)
from tests.tapped import latents_of

EXPERTS = ("wan22-experts", "wan-i2v-plain")
TI2V = ("wan22-5b", "wan22-5b-i2v")


@pytest.mark.parametrize("kind", BACKBONES)
def test_spec(kind: str) -> None:
    spec = tiny_backbone(kind).spec
    assert spec.position == ("sinusoidal" if kind == "sinusoidal" else "rotary")
    assert (spec.blocks, spec.heads, spec.head_dim, spec.hidden) == (4, 2, 16, 32)
    wan, large, span = kind in WAN, kind in TI2V, 2 if "cogvideox15" in kind else 1
    dynamic = not wan and COGVIDEOX[kind][1] is CogVideoXDPMScheduler
    assert spec.guidance == ("dynamic_timestep" if dynamic else "constant")
    needs = "required" if kind in PICTURED else "none"
    assert spec.picture == ("optional" if large else needs)
    assert spec.text_tokens == (512 if wan else 16)
    only = SIZE if kind == "cogvideox-i2v" else None
    assert spec.compression == Compression(4, 8 if large else 4, 2, 4, span, wan, only)
    published = VideoSize(81, 480, 832) if wan else VideoSize(24, 480, 720)
    assert spec.size == (published if wan or span == 2 else SIZE)
    assert spec.boundary == (0.5 if kind in EXPERTS else 0)
    assert spec.token_timesteps is large
    scheduler = type(WAN[kind][2]) if wan else COGVIDEOX[kind][1]
    assert spec.scheduler == scheduler.__name__


def test_fingerprint_is_of_the_configuration_alone() -> None:
    config = {
        "_class_name": "A",
        "_diffusers_version": "0.42.1",
        "_name_or_path": "/here",
        "num_layers": 4,
    }
    assert fingerprint(config) == fingerprint({"num_layers": 4}) != fingerprint({"num_layers": 5})
    assert (
        tiny_backbone("rotary").spec.fingerprint
        == tiny_backbone("rotary-ddim").spec.fingerprint
        != tiny_backbone("sinusoidal").spec.fingerprint
    )


@pytest.mark.parametrize("kind", BACKBONES)
def test_weights_are_frozen(kind: str) -> None:
    backbone = tiny_backbone(kind)
    assert (
        not any(parameter.requires_grad for parameter in backbone.transformer.parameters())
        and not backbone.transformer.training
    )


@pytest.mark.parametrize(
    ("kind", "frames"),
    [
        *(("rotary", n) for n in (9, 16, 17, 24)),
        *((kind, n) for kind in ("wan", "wan22-5b") for n in (9, 17)),
    ],
)
def test_encode_and_decode(kind: str, frames: int) -> None:
    backbone, size = tiny_backbone(kind), VideoSize(frames, 32, 48)
    latents = backbone.encode(frames_of(2, size))
    assert (
        latents.shape == (2, *backbone.spec.compression.latent_shape(size))
        and latents.dtype == torch.float32
    )
    torch.testing.assert_close(
        backbone.encode(frames_of(2, size)[1:]), latents[1:], rtol=0, atol=0
    )  # the mode, and no neighbours
    decoded = backbone.decode(latents)
    assert (
        decoded.shape == (2, backbone.spec.compression.decoded_frames(latents.shape[1]), 3, 32, 48)
        and decoded.dtype == torch.uint8
    )


def test_released_encoders_come_back() -> None:
    backbone = tiny_backbone("rotary")
    before = backbone.embed(PROMPTS), backbone.encode(frames_of())
    backbone.release_encoders()
    assert backbone.encoders._vae is None and backbone.encoders._text is None
    torch.testing.assert_close(
        (backbone.embed(PROMPTS), backbone.encode(frames_of())), before, rtol=0, atol=0
    )


def test_a_prompt_that_is_cut_warns() -> None:
    with pytest.warns(UserWarning, match="prompt cut to 16 tokens"):
        tiny_backbone("rotary").embed(["cat " * 30])


@pytest.mark.parametrize("kind", BACKBONES)
def test_plain_sampling_is_the_stock_pipeline(kind: str) -> None:
    """CFG in one batch there, in two calls here: equal up to the last bits of matrix products.

    Four steps round latents of size 6 by ten times 6e-8 each, and guidance of 7 enlarges it.
    A picture is encoded to the mode in both.
    """
    backbone, pipeline = tiny_backbone(kind), tiny_pipeline(kind)
    size = size_of(backbone)
    pipeline.set_progress_bar_config(disable=True)
    text, negative = backbone.embed(["a cat"]), backbone.embed(["dog"])
    wan = kind in WAN  # the other family has channels before frames, and no dynamic guidance
    own = {} if wan else {"use_dynamic_cfg": backbone.spec.guidance != "constant"}
    scale: Scale = 7.0
    if backbone.spec.boundary:
        scale, own = (7.0, 3.0), {"guidance_scale_2": 3.0}
    image = frames_of(1)[0, 0]
    said = {"prompt": "a cat", "negative_prompt": "dog"}
    if kind in PICTURED:
        said = {"prompt_embeds": text, "negative_prompt_embeds": negative}
        own |= {"image": Image.fromarray(image.permute(1, 2, 0).numpy())}
    noise = initial_noise(
        backbone.spec.compression.latent_shape(size), [torch.Generator().manual_seed(0)]
    )
    with likeliest():
        expected = pipeline(
            **said,
            height=size.height,
            width=size.width,
            num_frames=size.frames,
            num_inference_steps=4,
            guidance_scale=7.0,
            latents=noise.transpose(1, 2) if wan else noise,
            generator=[torch.Generator().manual_seed(1)],
            max_sequence_length=backbone.spec.text_tokens,
            output_type="latent",
            **own,
        ).frames
    expected = expected.transpose(1, 2) if wan else expected
    latents = sampled(
        backbone,
        backbone.schedule(4, scale),
        noise,
        text,
        negative,
        [torch.Generator().manual_seed(1)],
        picture=backbone.look(image[None], size.frames) if kind in PICTURED else None,
    )
    assert_close_in_norm(latents, expected, largest=4 * 6 * 6e-7 * 7)


@pytest.mark.parametrize(
    "size", [VideoSize(9, 32, 48), VideoSize(21, 48, 32), VideoSize(24, 16, 64)]
)
@pytest.mark.parametrize("kind", ["rotary", "sinusoidal", *WAN])
def test_stock_positions_at_any_size(kind: str, size: VideoSize) -> None:
    backbone = tiny_backbone(kind)
    latents, text = (
        torch.randn(1, *backbone.spec.compression.latent_shape(size)),
        torch.randn(1, 16, 32),
    )
    with torch.no_grad(), backbone.tapped():
        own, given = (
            backbone.predict(latents, 500, text, position)
            for position in (None, backbone.stock_position(grid_of(backbone, size)))
        )
    torch.testing.assert_close(given, own, rtol=0, atol=0)


@pytest.mark.parametrize("kind", BACKBONES)
def test_at_the_first_timestep_noised_latents_are_the_noise(kind: str) -> None:
    backbone = tiny_backbone(kind)
    latents, noise = torch.randn(2, 2, 3, 4, 8, 12)
    last = family_of(backbone).last
    torch.testing.assert_close(backbone.level(last).mix(latents, noise), noise, rtol=0, atol=0)
    assert not torch.equal(backbone.level(last - 20).mix(latents, noise), noise)


@pytest.mark.parametrize("block", [-1, 4, 20])
def test_an_unknown_block_is_refused(block: int) -> None:
    backbone = tiny_backbone("rotary")
    with (
        pytest.raises(ModelError, match=f"no block {block}: .* has blocks 0 to 3"),
        backbone.tapped(capture=[block]),
    ):
        pass


@pytest.mark.parametrize("kind", ["rotary", "wan"])
def test_a_rotary_position_needs_the_hooks(kind: str) -> None:
    backbone = tiny_backbone(kind)
    with pytest.raises(ModelError, match="with backbone.tapped"):
        backbone.predict(
            torch.randn(1, 3, 4, 8, 12),
            500,
            torch.randn(1, 16, 32),
            backbone.stock_position(grid_of(backbone)),
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "torch.float16"])
@pytest.mark.parametrize("kind", BACKBONES)
def test_the_model_runs_in_its_dtype_and_answers_in_float32(
    kind: str, dtype: torch.dtype | str
) -> None:
    backbone = load_backbone(str(tiny_folder(kind)), device="cpu", dtype=dtype)
    latents = latents_of(backbone, 1)
    picture = picture_for(backbone, latents)
    output = backbone.predict(latents, 500, backbone.embed(["a cat"]), picture=picture)
    assert (
        output is not None
        and output.dtype == torch.float32
        and backbone.dtype == getattr(torch, str(dtype).removeprefix("torch."))
    )
    assert backbone.stock_position(grid_of(backbone)).dtype == torch.float32


@pytest.mark.parametrize("steps", [0, -1, 1001])
@pytest.mark.parametrize("kind", ["rotary", "wan"])
def test_impossible_numbers_of_steps_are_refused(kind: str, steps: int) -> None:
    with pytest.raises(ModelError, match="can take 1 to 1000"):
        tiny_backbone(kind).schedule(steps)
