"""What is wrong with the files of a backbone is said in one sentence that names the part."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from transformers import T5EncoderModel
from transformers.utils import logging

from ditflow.models import ModelError, load_backbone
from ditflow.models.loading import PARTS
from ditflow.models.weights.files import NEEDED
from tests.registry import PROMPTS, frames_of, tiny_backbone, tiny_folder


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder("rotary"), tmp_path / "backbone"))


@pytest.mark.parametrize(
    ("missing", "part"),
    [
        ("transformer/config.json", "transformer"),
        ("transformer/diffusion_pytorch_model.safetensors", "transformer"),
        ("vae/config.json", "VAE"),
        ("vae/diffusion_pytorch_model.safetensors", "VAE"),
        ("text_encoder/config.json", "text encoder"),
        ("text_encoder/model.safetensors", "text encoder"),
        ("scheduler/scheduler_config.json", "scheduler"),
        *((part, PARTS.get(part, part)) for part in ("transformer", *NEEDED)),
    ],
)
def test_an_incomplete_folder_is_refused_before_weights_are_read(
    tmp_path: Path, missing: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CogVideoXTransformer3DModel, "from_pretrained", None)
    folder = copied(tmp_path)
    file = folder / missing
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    with pytest.raises(
        ModelError, match=f"^the {part} of backbone '{folder}' cannot be loaded .*again\\.$"
    ):
        load_backbone(str(folder))


def test_a_download_that_lacks_a_shard_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    tiny_backbone("rotary").transformer.save_pretrained(
        folder / "transformer", max_shard_size="20KB"
    )
    (folder / "transformer/diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
    load_backbone(str(folder))
    shards = sorted((folder / "transformer").glob("*.safetensors"))
    shards[1].unlink()
    with pytest.raises(ModelError, match=f"1 of its {len(shards)} files of weights are missing"):
        load_backbone(str(folder))


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


def test_a_folder_that_is_no_backbone(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model_index.json"):
        load_backbone(str(tmp_path))


def test_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(
        json.dumps({"transformer": ["diffusers", "MochiTransformer3DModel"]})
    )
    with pytest.raises(
        ModelError, match="'MochiTransformer3DModel'; supported: CogVideoXTransformer3DModel, Wan"
    ):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "boundary", "said"),
    [
        ("wan", None, "has two transformers, and nothing says .* Save its pipeline with a bound"),
        ("rotary", 0.5, "has two transformers, and nothing says which one denoises when"),
        ("wan", "half", "has the boundary_ratio 'half': it is a number from 0 to 1, such as 0.875"),
        ("wan", 1.5, "has the boundary_ratio 1.5: it is a number from 0 to 1"),
        ("wan", 0.5, "the transformer for little noise of backbone .* cannot be loaded"),
    ],
)
def test_two_experts_without_what_they_need_are_refused(
    tmp_path: Path, kind: str, boundary: Any, said: str
) -> None:
    folder = Path(shutil.copytree(tiny_folder(kind), tmp_path / "backbone"))
    index = json.loads((folder / "model_index.json").read_text())
    second = {"transformer_2": index["transformer"], "boundary_ratio": boundary}
    (folder / "model_index.json").write_text(json.dumps(index | second))
    with pytest.raises(ModelError, match=said):
        load_backbone(str(folder))


@pytest.mark.parametrize("dtype", ["int8", "float99", torch.int64])
def test_other_dtypes_are_refused(dtype: torch.dtype | str) -> None:
    with pytest.raises(ModelError, match="give float32, bfloat16 or float16"):
        load_backbone(str(tiny_folder("rotary")), dtype=dtype)
