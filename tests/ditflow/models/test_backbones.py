from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel
from torch import Tensor
from transformers import T5EncoderModel
from transformers.utils import logging

from ditflow.core.sizes import Compression, VideoSize
from ditflow.models import ModelError, load_backbone
from ditflow.models.base import fingerprint
from ditflow.models.cogvideox import CogVideoX
from ditflow.sampling.state import initial_noise
from tests.closeness import assert_close_in_norm
from tests.guided import sampled
from tests.registry import (
    BACKBONES,
    SIZE,
    TRANSFORMER,
    grid_of,
    tiny_backbone,
    tiny_folder,
    tiny_pipeline,
)

VAE = {"temporal_compression_ratio": 4, "block_out_channels": [8, 8, 8]}
PROMPTS = ["a cat", "the dog running"]
LATER = (
    "use_rotary_positional_embeddings",
    "use_learned_positional_embeddings",
    "patch_size_t",
)  # keys that not every version of diffusers has written


def frames_of(batch: int = 2, size: VideoSize = SIZE) -> Tensor:
    shape = (batch, size.frames, 3, size.height, size.width)
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("kind", BACKBONES)
def test_spec(kind: str) -> None:
    spec = tiny_backbone(kind).spec
    assert spec.position == ("rotary" if BACKBONES[kind][0] else "sinusoidal")
    assert (spec.blocks, spec.heads, spec.head_dim, spec.hidden, spec.text_tokens) == (
        4,
        2,
        16,
        32,
        16,
    )
    assert (spec.compression, spec.size) == (Compression(4, 4, 2, 4), SIZE)
    assert spec.guidance == ("dynamic_timestep" if kind == "rotary" else "constant")
    assert spec.scheduler == BACKBONES[kind][1].__name__


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


def test_a_configuration_from_before_there_were_rotary_positions(tmp_path: Path) -> None:
    """diffusers 0.30.0 wrote no such key; its default is what was meant."""
    folder = Path(shutil.copytree(tiny_folder("sinusoidal"), tmp_path / "backbone"))
    file = folder / "transformer" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in config.items() if key not in LATER}))
    assert set(LATER) <= set(config)
    older, backbone = load_backbone(str(folder), device="cpu"), tiny_backbone("sinusoidal")
    assert replace(older.spec, name="", fingerprint="") == replace(
        backbone.spec, name="", fingerprint=""
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


def test_weights_are_frozen() -> None:
    backbone = tiny_backbone("rotary")
    assert (
        not any(parameter.requires_grad for parameter in backbone.transformer.parameters())
        and not backbone.transformer.training
    )


@pytest.mark.parametrize("frames", [9, 16, 17, 24])
def test_encode_and_decode(frames: int) -> None:
    backbone, size = tiny_backbone("rotary"), VideoSize(frames, 32, 48)
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
    torch.testing.assert_close(
        backbone.decode(latents),
        torch.from_numpy((video * 255).round()).permute(0, 1, 4, 2, 3).to(torch.uint8),
        rtol=0,
        atol=0,
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
    """
    backbone, pipeline = tiny_backbone(kind), tiny_pipeline(kind)
    pipeline.set_progress_bar_config(disable=True)
    text, negative = backbone.embed(["a cat"]), backbone.embed(["dog"])
    noise = initial_noise(
        backbone.spec.compression.latent_shape(SIZE), [torch.Generator().manual_seed(0)]
    )
    expected = pipeline(
        "a cat", "dog", height=32, width=48, num_frames=9, num_inference_steps=4, guidance_scale=7.0, use_dynamic_cfg=backbone.spec.guidance != "constant",
        latents=noise, generator=[torch.Generator().manual_seed(1)], max_sequence_length=16, output_type="latent",
    ).frames  # fmt: skip
    latents = sampled(
        backbone,
        backbone.schedule(4, 7.0),
        noise,
        text,
        negative,
        [torch.Generator().manual_seed(1)],
    )
    assert_close_in_norm(latents, expected, largest=4 * 6 * 6e-7 * 7)


@pytest.mark.parametrize(
    "size", [VideoSize(9, 32, 48), VideoSize(21, 48, 32), VideoSize(24, 16, 64)]
)
@pytest.mark.parametrize("kind", ["rotary", "sinusoidal"])
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


def test_published_timesteps_whatever_was_asked_before() -> None:
    backbone = tiny_backbone("rotary")
    schedule = backbone.schedule(50)
    assert (
        schedule.timesteps == tuple(range(999, 0, -20)) and schedule.guidance == "dynamic_timestep"
    )
    latents, output = torch.randn(2, 1, 3, 4, 8, 12)
    expected = backbone.advance(
        output, schedule[3], latents, latents, [torch.Generator().manual_seed(0)]
    )
    backbone.schedule(7)  # another schedule in between changes nothing
    torch.testing.assert_close(
        backbone.advance(output, schedule[3], latents, latents, [torch.Generator().manual_seed(0)]),
        expected,
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("kind", BACKBONES)
def test_at_the_first_timestep_noised_latents_are_the_noise(kind: str) -> None:
    backbone = tiny_backbone(kind)
    latents, noise = torch.randn(2, 2, 3, 4, 8, 12)
    torch.testing.assert_close(backbone.level(999).mix(latents, noise), noise, rtol=0, atol=0)
    assert not torch.equal(backbone.level(979).mix(latents, noise), noise)


@pytest.mark.parametrize("block", [-1, 4, 20])
def test_an_unknown_block_is_refused(block: int) -> None:
    backbone = tiny_backbone("rotary")
    with (
        pytest.raises(ModelError, match=f"no block {block}: .* has blocks 0 to 3"),
        backbone.tapped(capture=[block]),
    ):
        pass


def test_sinusoidal_positions_need_all_text_tokens() -> None:
    with pytest.raises(ModelError, match="needs 16 text tokens, not 5. Make them with embed"):
        tiny_backbone("sinusoidal").predict(torch.randn(1, 3, 4, 8, 12), 500, torch.randn(1, 5, 32))


def test_a_rotary_position_needs_the_hooks() -> None:
    backbone = tiny_backbone("rotary")
    with pytest.raises(ModelError, match="with backbone.tapped"):
        backbone.predict(
            torch.randn(1, 3, 4, 8, 12),
            500,
            torch.randn(1, 16, 32),
            backbone.stock_position(grid_of(backbone)),
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "torch.float16"])
def test_the_model_runs_in_its_dtype_and_answers_in_float32(dtype: torch.dtype | str) -> None:
    backbone = load_backbone(str(tiny_folder("rotary")), device="cpu", dtype=dtype)
    output = backbone.predict(torch.randn(1, 3, 4, 8, 12), 500, backbone.embed(["a cat"]))
    assert (
        output is not None
        and output.dtype == torch.float32
        and backbone.dtype == getattr(torch, str(dtype).removeprefix("torch."))
    )
    assert backbone.stock_position(grid_of(backbone)).dtype == torch.float32


@pytest.mark.parametrize("dtype", ["int8", "float99", torch.int64])
def test_other_dtypes_are_refused(dtype: torch.dtype | str) -> None:
    with pytest.raises(ModelError, match="give float32, bfloat16 or float16"):
        load_backbone(str(tiny_folder("rotary")), dtype=dtype)


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder("rotary"), tmp_path / "backbone"))


@pytest.mark.parametrize(
    ("missing", "part"),
    [
        ("transformer/config.json", "transformer"),
        ("transformer/diffusion_pytorch_model.safetensors", "transformer"),
        ("vae/config.json", "VAE"),
        ("scheduler/scheduler_config.json", "scheduler"),
    ],
)
def test_an_incomplete_folder_is_refused(tmp_path: Path, missing: str, part: str) -> None:
    folder = copied(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(
        ModelError, match=f"^the {part} of backbone '{folder}' cannot be loaded .*again\\.$"
    ):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    ("missing", "part"),
    [("vae", "VAE"), ("text_encoder", "text encoder"), ("tokenizer", "tokenizer")],
)
def test_missing_encoders_are_said_when_they_are_needed(
    tmp_path: Path, missing: str, part: str
) -> None:
    folder = copied(tmp_path)
    for file in (folder / missing).iterdir():
        if file.name != "config.json" or missing != "vae":
            file.unlink()
    backbone = load_backbone(str(folder))
    with pytest.raises(
        ModelError, match=f"^the {part} of backbone '{folder}' cannot be loaded .*again\\.$"
    ):
        backbone.encode(frames_of()) if missing == "vae" else backbone.embed(PROMPTS)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("transformer/config.json", b"{}", "the transformer of .* has no num_attention_heads"),
        ("transformer/config.json", b"{", "the transformer of"),
        ("transformer/diffusion_pytorch_model.safetensors", b"cut", "the transformer of"),
        (
            "vae/config.json",
            b"{}",
            "the VAE of .* has no block_out_channels, temporal_compression_ratio",
        ),
        ("vae/diffusion_pytorch_model.safetensors", b"cut", "the VAE of"),
        ("text_encoder/model.safetensors", b"cut", "the text encoder of .*SafetensorError"),
        ("text_encoder/config.json", b"{", "the text encoder of"),
        ("tokenizer/tokenizer.json", b"{", "the tokenizer of"),
        ("scheduler/scheduler_config.json", b"{", "the scheduler of"),
        ("model_index.json", b"{", "the model_index.json of backbone .* cannot be read"),
        ("model_index.json", b"[]", "is not a JSON object"),
        ("model_index.json", b"{}", "names no transformer"),
    ],
)
def test_a_broken_part_is_named_in_one_sentence(
    tmp_path: Path, file: str, content: bytes, said: str
) -> None:
    folder = copied(tmp_path)
    assert (folder / file).is_file()
    (folder / file).write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        backbone = load_backbone(str(folder))
        backbone.encode(frames_of())
        backbone.embed(PROMPTS)
    assert "\n" not in str(caught.value)


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.mark.parametrize(
    ("safe", "pickled", "part"),
    [
        (
            "transformer/diffusion_pytorch_model.safetensors",
            "diffusion_pytorch_model.bin",
            "transformer",
        ),
        ("vae/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "VAE"),
        ("text_encoder/model.safetensors", "pytorch_model.bin", "text encoder"),
    ],
)
def test_pickled_weights_are_refused_and_not_opened(
    tmp_path: Path, safe: str, pickled: str, part: str
) -> None:
    folder = copied(tmp_path)
    (folder / safe).unlink()
    (folder / safe).with_name(pickled).write_bytes(pickle.dumps(Trap(tmp_path / "unpickled")))
    with pytest.raises(
        ModelError, match=f"the {part} of .* cannot be loaded: its weights are pickled"
    ):
        backbone = load_backbone(str(folder))
        backbone.encode(frames_of())
        backbone.embed(PROMPTS)
    assert not (tmp_path / "unpickled").exists()


def test_every_part_is_asked_for_as_safetensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub id's files are not seen beforehand: the libraries themselves are told."""
    asked = []
    for part in (CogVideoXTransformer3DModel, AutoencoderKLCogVideoX, T5EncoderModel):
        load = part.from_pretrained
        monkeypatch.setattr(
            part,
            "from_pretrained",
            lambda *given, load=load, **named: (
                asked.append(named["use_safetensors"]) or load(*given, **named)
            ),
        )
    backbone = tiny_backbone("rotary")
    backbone.encode(frames_of())
    backbone.embed(PROMPTS)
    assert asked == [True, True, True]


@pytest.mark.parametrize("shown", [True, False])
def test_loading_shows_no_bars_and_leaves_the_setting(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], shown: bool
) -> None:
    monkeypatch.setattr(logging, "_tqdm_active", shown)
    tiny_backbone("rotary").embed(PROMPTS)
    assert "Loading weights" not in "".join(capfd.readouterr())
    assert logging.is_progress_bar_enabled() is shown


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(ModelError, match="can take 1 to 1000"):
        tiny_backbone("rotary").schedule(steps)


def test_a_folder_that_is_no_backbone(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model_index.json"):
        load_backbone(str(tmp_path))


def test_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(
        json.dumps(
            {"_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]}
        )
    )
    with pytest.raises(
        ModelError, match="'WanTransformer3DModel'; supported: CogVideoXTransformer3DModel"
    ):
        load_backbone(str(tmp_path))
