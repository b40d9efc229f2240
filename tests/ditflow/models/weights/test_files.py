"""What is no plain pipeline of a family is refused in one sentence, before weights are loaded."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from ditflow.models import ModelError, load_backbone, sketch_backbone
from ditflow.models.loading import PARTS
from ditflow.models.weights import memory
from tests.clips import ditflow
from tests.registry import tiny_backbone, tiny_folder

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny Wan whose transformer must not be loaded."""
    monkeypatch.setattr(WanTransformer3DModel, "from_pretrained", None)
    return Path(shutil.copytree(tiny_folder("wan"), tmp_path / "backbone"))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("wan-Q4_K_M.gguf", "is a GGUF file: .* Give the diffusers folder, or the hub id"),
        ("wan.safetensors", "is a single file of weights: .*as docs/models.md shows"),
        ("wan.ckpt", "may be pickled, and unpickling can run code"),
        ("wan.pth", "may be pickled"),
        ("README.md", "is a file, and no checkpoint: .* Give that folder, or a hub id"),
        ("wan", "is a file, and no checkpoint"),
    ],
)
def test_a_file_is_no_backbone(tmp_path: Path, file: str, said: str) -> None:
    (tmp_path / file).write_bytes(b"anything")
    with pytest.raises(ModelError, match=said):
        load_backbone(str(tmp_path / file))


def test_a_single_file_becomes_a_folder_as_the_docs_say(tmp_path: Path) -> None:
    """Weights by diffusers' names, without a network; the transformer's numbers are the same."""
    folder = shutil.copytree(tiny_folder("wan"), tmp_path / "mine")
    shutil.move(
        folder / "transformer/diffusion_pytorch_model.safetensors", tmp_path / "w.safetensors"
    )
    transformer = WanTransformer3DModel.from_single_file(
        str(tmp_path / "w.safetensors"), config=str(folder), subfolder="transformer"
    )
    transformer.save_pretrained(folder / "transformer")
    mine, own = load_backbone(str(folder)), tiny_backbone("wan")
    for one, other in zip(mine.transformer.parameters(), own.transformer.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("part", "method"),
    [("transformer", "bitsandbytes"), ("vae", "torchao"), ("text_encoder", "gguf")],
)
def test_a_quantised_part_is_refused(folder: Path, part: str, method: str) -> None:
    change(folder / part / "config.json", quantization_config={"quant_method": method})
    with pytest.raises(ModelError, match=rf"^the .* is quantised \({method}\): not supported. Use"):
        load_backbone(str(folder))


def test_weights_of_eight_bits_are_refused(folder: Path) -> None:
    file = folder / "transformer/diffusion_pytorch_model.safetensors"
    weights = {name: value.to(torch.float8_e4m3fn) for name, value in load_file(file).items()}
    save_file(weights, file)
    with pytest.raises(ModelError, match=r"the transformer .* is quantised \(F8_E4M3\)"):
        load_backbone(str(folder))


def test_a_text_encoder_of_another_class_is_refused(folder: Path) -> None:
    """UMT5 loads into T5 without an error, and each gives other embeddings than the other."""
    shutil.rmtree(folder / "text_encoder")
    shutil.copytree(tiny_folder("rotary") / "text_encoder", folder / "text_encoder")
    said = "is of type 't5', and UMT5EncoderModel is 'umt5': .* embeddings would be wrong"
    with pytest.raises(ModelError, match=said):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    ("part", "name"), [("transformer", "WanTransformer3DModel"), ("vae", "AutoencoderKLWan")]
)
def test_a_part_of_another_class_is_refused(folder: Path, part: str, name: str) -> None:
    change(folder / part / "config.json", _class_name="AnotherModel")
    for load in (load_backbone, sketch_backbone):
        with pytest.raises(ModelError, match=f"is of class 'AnotherModel', and .* has '{name}'"):
            load(str(folder))


@pytest.mark.parametrize("pipeline", ["WanVACEPipeline", "WanAnimatePipeline", "LucyEditPipeline"])
def test_another_pipeline_of_the_same_transformer_is_refused(folder: Path, pipeline: str) -> None:
    change(folder / "model_index.json", _class_name=pipeline)
    with pytest.raises(ModelError, match=f"is of a {pipeline}, .*supported: WanPipeline,"):
        load_backbone(str(folder))


@pytest.mark.parametrize("load", [load_backbone, sketch_backbone])
@pytest.mark.parametrize(
    ("kind", "part", "said"),
    [
        ("wan-i2v", "image_processor", "has an image_dim, .* names no image processor"),
        ("wan-i2v", "image_encoder", "has an image_dim, .* names no image encoder"),
        ("wan22-experts", "transformer_2", "has a boundary_ratio, .* names no transformer for lit"),
        ("wan", "text_encoder", "the text encoder of .* there is no folder text_encoder"),
    ],
)
def test_a_part_that_is_missing_is_said_before_weights_are_read(
    load: Any, kind: str, part: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WanTransformer3DModel, "from_pretrained", None)
    folder = Path(shutil.copytree(tiny_folder(kind), tmp_path / "mine"))
    shutil.rmtree(folder / part)
    with pytest.raises(ModelError, match=f"the {PARTS[part]} of backbone .* cannot be loaded"):
        load(str(folder))
    change(folder / "model_index.json", **{part: [None, None]})
    with pytest.raises(ModelError, match=said):
        load(str(folder))


@pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_sketch_says_what_loading_says_of_a_part_that_is_not_named(
    folder: Path, part: str
) -> None:
    """Nor there. Of configurations alone, which cannot be loaded, sizes are asked."""
    index = json.loads((folder / "model_index.json").read_text())
    index.pop(part)
    (folder / "model_index.json").write_text(json.dumps(index))
    shutil.rmtree(folder / part)
    said = []
    for load in (load_backbone, sketch_backbone):
        with pytest.raises(ModelError) as raised:
            load(str(folder))
        said.append(str(raised.value))
    assert said[0] == said[1] and PARTS.get(part, part) in said[0]
    for file in folder.glob("*/*.safetensors"):
        file.unlink()
    if part in ("text_encoder", "tokenizer"):
        assert sketch_backbone(str(folder)).spec.blocks


@pytest.mark.parametrize("load", [load_backbone, sketch_backbone])
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_layers": 3}, r"the two transformers .* are configured differently \(num_layers\)"),
        (
            {"quantization_config": {"quant_method": "gguf"}},
            r"the transformer for little noise .* is quantised \(gguf\)",
        ),
        ({"_class_name": "AnotherModel"}, "the transformer for little noise .* of class 'Another"),
    ],
)
def test_a_second_expert_is_as_the_first_one(
    load: Any, changed: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WanTransformer3DModel, "from_pretrained", None)
    folder = Path(shutil.copytree(tiny_folder("wan22-experts"), tmp_path / "mine"))
    change(folder / "transformer_2/config.json", **changed)
    with pytest.raises(ModelError, match=said):
        load(str(folder))


def test_a_sketch_asks_for_no_weights(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder("wan-i2v"), tmp_path / "mine"))
    for file in folder.glob("*/*.safetensors"):
        file.unlink()
    for options in ({}, {"device": "cpu", "blocks": 1}):
        assert sketch_backbone(str(folder), **options).spec.picture == "required"
    with pytest.raises(ModelError, match="files of weights are missing"):
        load_backbone(str(folder))


def test_weights_that_do_not_fit_are_refused_with_their_sizes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    said = (
        r"take .* GB in float32 \(transformer .*, VAE .*, text encoder .*\), and cpu has 1e-06 GB"
    )
    with pytest.raises(ModelError, match=said + " free. Use --model.dtype bfloat16, a smaller"):
        load_backbone(str(folder), device="cpu")


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_weights_are_counted_to_the_byte(
    dtype: torch.dtype, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Floats of any width become the dtype's, indices stay: one byte less is too little."""
    numbers = {"transformer": Counter(F32=700, BF16=300), "vae": Counter(F16=10, I64=1)}
    needed = 1010 * width + 8
    monkeypatch.setattr(memory, "free_memory", lambda device: needed)
    memory.check_fits("mine", numbers, CPU, dtype)
    monkeypatch.setattr(memory, "free_memory", lambda device: needed - 1)
    with pytest.raises(ModelError, match="take"):
        memory.check_fits("mine", numbers, CPU, dtype)


def test_of_two_experts_one_is_on_a_gpu_and_both_are_in_main_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = {"transformer": Counter(F32=3), "transformer_2": Counter(F32=5), "vae": Counter()}
    monkeypatch.setattr(memory, "free_memory", lambda device: 5 * 4)
    memory.check_fits("mine", numbers, torch.device("cuda"), torch.float32)
    with pytest.raises(ModelError, match="take 3.2e-08 GB in float32"):
        memory.check_fits("mine", numbers, CPU, torch.float32)


def test_what_is_counted_is_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    monkeypatch.setattr(
        "ditflow.models.registry.check_fits",
        lambda name, numbers, *_, **__: counted.append(numbers),
    )
    backbone = load_backbone(str(tiny_folder("wan")))
    assert counted[0]["transformer"].total() == backbone.weights


def test_free_memory_of_this_machine() -> None:
    free = memory.free_memory(CPU)
    assert free is not None and 2**20 < free < 2**50
    assert memory.free_memory(torch.device("meta")) is None


def test_the_command_says_so_and_exits_with_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder / "transformer/config.json", quantization_config={"quant_method": "torchao"})
    (folder.parent / "a.mp4").touch()
    words = ["--data.videos", str(folder.parent / "a.mp4"), "--data.prompt", "a cat"]
    bank = ["--bank", str(folder.parent / "bank")]
    assert ditflow(monkeypatch, "fit", "--model.backbone", str(folder), *bank, *words) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith("ditflow: the transformer of backbone") and "torchao" in sentence
