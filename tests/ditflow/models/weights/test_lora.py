"""A LoRA in the weights: W + scale * B A, whatever else is done with the model."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

import ditflow as library
from ditflow.bank import BankEntry, MotionBank
from ditflow.compatibility import check_entry
from ditflow.core.schedule import GuidanceWindow
from ditflow.models import Model, ModelError, load_backbone, sketch_backbone
from ditflow.models.registry import MODELS
from ditflow.models.spec import Lora
from ditflow.models.weights.lora import warn_of_others
from tests.clips import arguments, clip_of, ditflow, whole_bank, write_clips
from tests.ditflow.test_transfer import guidance_of
from tests.families import FAMILIES
from tests.registry import SOME, picture_for, size_of, tiny_backbone, tiny_folder

RANK = 3
EXPERTS = "wan22-experts"


def lora_of(kind: str, folder: Path, seed: int = 0, *, channels: int | None = None) -> Path:
    """A random LoRA of some layers of a tiny model, saved as diffusers saves it."""
    model = tiny_backbone(kind)
    blocks = FAMILIES[model.spec.transformer].blocks
    draw = torch.Generator().manual_seed(seed)
    layers: dict[str, Tensor] = {}
    for block in range(2):
        for layer in ("attn1.to_q", "attn1.to_v", "attn1.to_out.0"):
            name = f"{blocks}.{block}.{layer}"
            out, into = model.transformer.get_submodule(name).weight.shape
            a = torch.randn(RANK, channels or into, generator=draw)
            layers |= {f"{name}.lora_A.weight": a}
            layers |= {f"{name}.lora_B.weight": torch.randn(out, RANK, generator=draw) / 4}
    import diffusers

    pipeline = getattr(diffusers, MODELS[model.spec.transformer].pipelines[0])
    pipeline.save_lora_weights(
        folder, transformer_lora_layers=layers, weight_name="style.safetensors"
    )
    return folder / "style.safetensors"


def by_hand(kind: str, *loras: tuple[Path, float]) -> Model:
    """A model whose weights are changed by two products of matrices."""
    model = tiny_backbone(kind)
    for expert in model.experts:
        add(expert, *loras)
    return model


def add(transformer: Any, *loras: tuple[Path, float]) -> None:
    for file, scale in loras:
        matrices = load_file(file)
        for key in (key for key in matrices if ".lora_A." in key):
            layer = key.removeprefix("transformer.").partition(".lora_A")[0]
            product = matrices[key.replace("lora_A", "lora_B")] @ matrices[key]
            transformer.get_submodule(layer).weight.data += scale * product


@torch.no_grad()
def output(model: Model, timestep: float = 500) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    shape = model.spec.compression.latent_shape(size_of(model))
    latents = torch.randn(1, *shape, generator=draw)
    text = torch.randn(1, 16, 32, generator=draw)
    predicted = model.predict(latents, timestep, text, picture=picture_for(model, latents))
    assert predicted is not None
    return predicted


@pytest.mark.parametrize("kind", SOME)
@pytest.mark.parametrize("scale", [1.0, 0.5, -2.0])
def test_it_is_the_product_of_its_matrices_in_the_weights(
    kind: str, scale: float, tmp_path: Path
) -> None:
    file = lora_of(kind, tmp_path)
    model = load_backbone(str(tiny_folder(kind)), lora=f"{file}:{scale}")
    # the same sums in another order: some ten roundings of float32
    torch.testing.assert_close(output(model), output(by_hand(kind, (file, scale))))
    assert (output(model) - output(tiny_backbone(kind))).abs().max() > 0.01
    names = [name for name, _ in model.transformer.named_modules()]
    assert names == [name for name, _ in tiny_backbone(kind).transformer.named_modules()]
    assert not any(weight.requires_grad for weight in model.transformer.parameters())
    assert not any(module.training for module in model.transformer.modules())


@pytest.mark.parametrize("kind", SOME)
def test_a_scale_of_0_is_no_lora(kind: str, tmp_path: Path) -> None:
    model = load_backbone(str(tiny_folder(kind)), lora=f"{lora_of(kind, tmp_path)}:0")
    torch.testing.assert_close(output(model), output(tiny_backbone(kind)), rtol=0, atol=0)


def test_two_of_them_add_up_and_are_named(tmp_path: Path) -> None:
    files = [lora_of("wan", tmp_path / str(seed), seed) for seed in (0, 1)]
    given = [str(files[0]), f"{files[1]}:-0.5"]
    model = load_backbone(str(tiny_folder("wan")), lora=given)
    torch.testing.assert_close(
        output(model), output(by_hand("wan", (files[0], 1.0), (files[1], -0.5)))
    )
    assert [str(one) for one in model.spec.loras] == [
        "style.safetensors at 1",
        "style.safetensors at -0.5",
    ]
    assert len({one.sha256 for one in model.spec.loras}) == 2
    assert sketch_backbone(str(tiny_folder("wan")), lora=given).spec == model.spec


def test_the_layout_of_other_trainers(tmp_path: Path) -> None:
    """Wan's own names, with an alpha: diffusers knows it, and B A counts alpha / rank."""
    file = lora_of("wan", tmp_path)
    own = {
        "attn1.to_q": "self_attn.q",
        "attn1.to_v": "self_attn.v",
        "attn1.to_out.0": "self_attn.o",
    }
    weights = {}
    for key, value in load_file(file).items():
        name = key.removeprefix("transformer.")
        for theirs, ours in own.items():
            name = name.replace(theirs, ours)
        weights[
            f"diffusion_model.{name.replace('lora_A', 'lora_down').replace('lora_B', 'lora_up')}"
        ] = value
        weights[f"diffusion_model.{name.partition('.lora_')[0]}.alpha"] = torch.tensor(1.5)
    save_file(weights, tmp_path / "theirs.safetensors")
    model = load_backbone(str(tiny_folder("wan")), lora=str(tmp_path / "theirs.safetensors"))
    torch.testing.assert_close(output(model), output(by_hand("wan", (file, 1.5 / RANK))))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("none.safetensors", "there is no LoRA .*none.safetensors': check the path"),
        ("style.bin", "is no safetensors file, and others may run code"),
        ("style.safetensors:inf", "has no finite scale: give PATH, or PATH:SCALE"),
        ("cut.safetensors", "cannot be read .*Download it again"),
        ("weights.safetensors", "holds no LoRA but weights such as 'w'"),
        ("dora.safetensors", "is a DoRA"),
        (
            "other.safetensors",
            "was made for another model: this transformer has no 'transformer_bl",
        ),
        (
            "wide.safetensors",
            "of another size: its blocks.0.attn1.to_.* has 64 channels where .* 32",
        ),
        ("half.safetensors", r"cannot be read as one of a WanPipeline \(\w+\)"),
    ],
)
def test_what_is_no_lora_of_the_model_is_said_in_one_sentence(
    tmp_path: Path, given: str, said: str
) -> None:
    lora_of("wan", tmp_path)
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    save_file({"w": torch.zeros(1)}, tmp_path / "weights.safetensors")
    save_file(
        {"x.lora_A.weight": torch.zeros(1), "x.dora_scale": torch.zeros(1)},
        tmp_path / "dora.safetensors",
    )
    lora_of("rotary", tmp_path / "of").rename(tmp_path / "other.safetensors")
    lora_of("wan", tmp_path / "of", channels=64).rename(tmp_path / "wide.safetensors")
    whole = load_file(tmp_path / "style.safetensors")
    save_file(
        {key: value for key, value in whole.items() if "lora_A" in key},
        tmp_path / "half.safetensors",
    )
    with pytest.raises(ModelError, match=said) as caught:
        load_backbone(str(tiny_folder("wan")), lora=str(tmp_path / given))
    assert "\n" not in str(caught.value)


def test_each_of_two_experts_has_its_own(tmp_path: Path) -> None:
    """By hand, and as the stock pipeline loads a pair. One without a name is for both."""
    high, low, both = (lora_of(EXPERTS, tmp_path / str(seed), seed) for seed in range(3))
    folder = str(tiny_folder(EXPERTS))
    given = [f"high={high}:0.5", f"low={low}", f"{both}:-1"]
    model, wanted = load_backbone(folder, lora=given), tiny_backbone(EXPERTS)
    for expert, own in zip(wanted.experts, ((high, 0.5), (low, 1.0)), strict=True):
        add(expert, own, (both, -1.0))
    for timestep in (900, 100):
        torch.testing.assert_close(output(model, timestep), output(wanted, timestep))
    named = ["high=style.safetensors at 0.5", "low=style.safetensors at 1"]
    assert [str(one) for one in model.spec.loras] == [*named, "style.safetensors at -1"]
    assert sketch_backbone(folder, lora=given).spec == model.spec

    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.load_lora_weights(str(high), adapter_name="high")
    pipeline.load_lora_weights(str(low), adapter_name="low", load_into_transformer_2=True)
    model, wanted = load_backbone(folder, lora=given[:2]), tiny_backbone(EXPERTS)
    pipeline.transformer.set_adapters("high", 0.5)
    wanted.experts[:] = pipeline.transformer, pipeline.transformer_2
    wanted.transformer = wanted.experts[0]
    for timestep in (900, 100):
        torch.testing.assert_close(output(model, timestep), output(wanted, timestep))


@pytest.mark.parametrize("load", [load_backbone, sketch_backbone])
def test_a_single_transformer_is_no_expert(load: Any, tmp_path: Path) -> None:
    file = lora_of("wan", tmp_path)
    said = "'low=style.safetensors' is for an expert, and .* has a single .*: leave 'low=' out"
    with pytest.raises(ModelError, match=said):
        load(str(tiny_folder("wan")), lora=f"low={file}:0.5")
    with pytest.raises(ModelError, match="'mid=.*style.safetensors': the experts are high and low"):
        load(str(tiny_folder("wan")), lora=f"mid={file}")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("", "", "name it once, with the sum of both scales"),
        ("high=", "", "name it once for each expert: high=PATH:SCALE and low=PATH:SCALE"),
        ("low=", "low=", "name it once for each expert"),
    ],
)
def test_a_lora_named_twice(first: str, second: str, said: str, tmp_path: Path) -> None:
    """Under another path and another name too."""
    file = lora_of("wan", tmp_path)
    copy = shutil.copy(file, tmp_path / "copy.safetensors")
    for again in (file, tmp_path / "." / ".." / tmp_path.name / file.name, copy):
        given = [f"{first}{file}", f"{second}{again}:0.5"]
        with pytest.raises(ModelError, match=f"{again.name}' is named twice: {said}"):
            sketch_backbone(str(tiny_folder(EXPERTS)), lora=given)
    load_backbone(str(tiny_folder(EXPERTS)), lora=[f"high={file}", f"low={copy}:0.5"])


@pytest.mark.parametrize("given", ["high=", "low=:0.8", ":0.5"])
def test_a_lora_without_a_file(given: str) -> None:
    with pytest.raises(ModelError, match=f"LoRA '{given}' names no file: give PATH"):
        sketch_backbone(str(tiny_folder(EXPERTS)), lora=given)


def test_one_for_both_experts_is_one_for_each(recwarn: pytest.WarningsRecorder) -> None:
    both = [Lora("a.safetensors", "a")]
    each = [Lora("high=a.safetensors", "a"), Lora("low=a.safetensors", "a")]
    warn_of_others("clip", both, each)
    warn_of_others("clip", each, both)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="the model has high=a.safetensors at 1:"):
        warn_of_others("clip", both, each[:1])


def test_an_entry_says_which_expert_has_which(tmp_path: Path) -> None:
    """A pair the wrong way round is another pair."""
    one, other = (lora_of(EXPERTS, tmp_path / str(seed), seed) for seed in range(2))
    folder = str(tiny_folder(EXPERTS))
    model = load_backbone(folder, lora=[f"high={one}", f"low={other}"])
    how: dict[str, Any] = {"steps": 4, "motion_guidance": guidance_of("rotary_positions")}
    entry = library.transfer_motion(model, clip_of(), "a cat", **how).entry
    again = BankEntry.from_bytes(entry.to_bytes())
    named = ["high=style.safetensors", "low=style.safetensors"]
    assert [lora["file"] for lora in again.metadata.loras] == named
    check_entry(model, again)  # without a warning, which would be an error here
    turned = load_backbone(folder, lora=[f"high={other}", f"low={one}"])
    with pytest.warns(UserWarning, match="with high=style.safetensors at 1, low=style.saf"):
        check_entry(turned, again)


def test_an_entry_says_its_lora_and_warns_of_another(tmp_path: Path) -> None:
    lora = f"{lora_of('rotary', tmp_path)}:0.5"
    folder = str(tiny_folder("rotary"))
    model = load_backbone(folder, lora=lora)
    how: dict[str, Any] = {"steps": 2, "motion_guidance": guidance_of("rotary_positions")}
    entry = library.transfer_motion(model, clip_of(), "a cat", **how).entry
    (said,) = entry.metadata.loras
    assert (said["file"], said["scale"]) == ("style.safetensors", 0.5)
    assert said["sha256"] == model.spec.loras[0].sha256
    again = BankEntry.from_bytes(entry.to_bytes())
    check_entry(model, again)  # without a warning, which would be an error here
    with pytest.warns(
        UserWarning, match="with style.safetensors at 0.5, and the model has no LoRA"
    ) as warned:
        library.inject_motion(load_backbone(folder), again, "a cat", steps=2)
    assert warned[0].filename == __file__
    plain = replace(entry, metadata=replace(entry.metadata, loras=()))
    with pytest.warns(
        UserWarning, match="with no LoRA, and the model has style.safetensors at 0.5"
    ):
        check_entry(model, plain)
    assert "loras" not in json.dumps(plain.metadata.as_dict())  # as entries were before


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a LoRA, and a bank that was made with half of it, down to a level of noise."""
    folder = tmp_path_factory.mktemp("fitted")
    words = ["--model.lora", f"{lora_of('rotary', folder)}:0.5", "--model.window", "noise:0.6"]
    whole_bank(folder / "bank", write_clips(folder, ["left"]), *words)
    return folder


def test_a_command_takes_one_and_predict_warns_without_it(
    fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = MotionBank(fitted / "bank")["left"].metadata
    assert [one["scale"] for one in metadata.loras] == [0.5]
    schedule = tiny_backbone("rotary").schedule(4)
    assert metadata.window == tuple(vars(GuidanceWindow.of("noise:0.6", schedule)).values())
    (fitted / "prompts.txt").write_text("a red cat\n")
    words = arguments("predict", fitted / "bank", prompts=fitted / "prompts.txt")
    words += ["--model.steps", "2", "--out", str(fitted / "out")]
    with pytest.warns(UserWarning, match="was optimised with style.safetensors at 0.5"):
        assert ditflow(monkeypatch, *words, "--dry_run") == 0
    given = f"[{fitted / 'style.safetensors'}:0.5]"
    with warnings.catch_warnings(record=True) as caught:
        assert ditflow(monkeypatch, *words, "--model.lora", given) == 0
    assert not any("was optimised with" in str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("there", "given", "said"),
    [
        (True, "none.safetensors", "there is no LoRA"),
        (False, "style.safetensors", "pip install 'ditflow[lora]'"),
    ],
)
def test_a_command_without_its_lora_exits_with_2(
    there: bool,
    given: str,
    said: str,
    fitted: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if not there:
        monkeypatch.setitem(sys.modules, "peft", None)
    words = arguments("fit", fitted / "other", manifest=fitted / "clips.csv")
    assert ditflow(monkeypatch, *words, "--model.lora", str(fitted / given)) == 2
    (sentence,) = capfd.readouterr().err.strip().splitlines()
    assert said in sentence


def test_a_command_takes_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    high, low = (lora_of(EXPERTS, tmp_path / str(seed), seed) for seed in range(2))
    words = arguments("fit", tmp_path / "bank", EXPERTS, manifest=write_clips(tmp_path, ["left"]))
    given = ["--model.lora", f"[high={high}:0.5,low={low}]", "--model.variable", "rotary_positions"]
    assert ditflow(monkeypatch, *words, *given) == 0
    loras = MotionBank(tmp_path / "bank")["left"].metadata.loras
    assert [(one["file"], one["scale"]) for one in loras] == [
        ("high=style.safetensors", 0.5),
        ("low=style.safetensors", 1.0),
    ]
