"""Presets: what ships is complete, a model finds its own, and a wrong file is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import get_args

import pytest

from ditflow.core.sizes import VideoSize
from ditflow.models import MODELS, sketch_backbone
from ditflow.models.presets import presets, read_preset, recommended, trained_size
from ditflow.models.presets.table import table
from ditflow.sampling.guidance import Update
from ditflow.sampling.variables import VARIABLES
from tests.registry import tiny_backbone

PRESETS = {preset.checkpoint: preset for preset in presets()}
RATES = {*VARIABLES, *get_args(Update)} - {"adam"}


@pytest.mark.parametrize("checkpoint", PRESETS)
def test_a_preset_is_complete(checkpoint: str) -> None:
    preset = PRESETS[checkpoint]
    advice, model = preset.recommended, preset.model
    assert model["transformer"] in MODELS
    assert set(model) - {"boundary", "picture", "patch_time"} == {
        *("transformer", "position", "blocks", "heads", "head_dim"),
    }
    assert VARIABLES[advice.variable].needs in (None, model["position"])
    assert 0 <= advice.block < int(model["blocks"]) and 0 < advice.window <= 1
    assert advice.learning_rates.keys() == RATES
    assert all(isinstance(rate, float) for pair in advice.learning_rates.values() for rate in pair)
    assert preset.licence and preset.source and len(preset.size) == 2


@pytest.mark.parametrize("name", ["tiny-rope", "tiny-sincos", "tiny-wan"])
def test_an_embedded_model_finds_its_own(name: str) -> None:
    spec = sketch_backbone(name).spec
    assert PRESETS[name].describes(vars(spec))
    assert (PRESETS[name].frames, PRESETS[name].size) == (
        spec.size.frames,
        (spec.size.height, spec.size.width),
    )
    assert recommended(spec) == PRESETS[name].recommended


@pytest.mark.parametrize("checkpoint", PRESETS)
def test_a_copy_under_another_name_has_the_same_values(checkpoint: str) -> None:
    preset = PRESETS[checkpoint]
    tiny = tiny_backbone("rotary").spec
    told = dict(preset.model)
    span = replace(tiny.compression, patch_time=told.pop("patch_time", 1))
    spec = replace(tiny, name="my/fine-tune", compression=span, **told)  # type: ignore[arg-type]
    assert recommended(spec) == preset.recommended
    (own,) = (other for other in presets() if other.describes(vars(span) | vars(spec)))
    assert own is preset


@pytest.mark.parametrize(
    ("checkpoint", "size"),
    [
        ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", (81, 480, 832)),  # its settings are for fewer frames
        ("Wan-AI/Wan2.2-TI2V-5B-Diffusers", (121, 704, 1280)),
        ("tiny-wan", (25, 64, 64)),
        ("THUDM/CogVideoX1.5-5B", (80, 768, 1360)),
        ("THUDM/CogVideoX1.5-5B-I2V", (80, 768, 1360)),
    ],
)
def test_a_preset_says_what_a_model_was_trained_for(
    checkpoint: str, size: tuple[int, int, int]
) -> None:
    model = PRESETS[checkpoint].model
    assert trained_size(**model) == VideoSize(*size)  # type: ignore[arg-type]
    unknown, wan = {**model, "blocks": 7}, "Wan" in str(model["transformer"])
    published = VideoSize(81, 480, 832) if wan else VideoSize(24, 480, 720)
    assert trained_size(**unknown) == published  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "checkpoint"),
    [
        ("rotary", "THUDM/CogVideoX-5b"),
        ("sinusoidal", "THUDM/CogVideoX-2b"),
        ("wan", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"),
    ],
)
def test_an_unknown_model_has_its_familys_values_at_its_middle_block(kind, checkpoint) -> None:
    spec = replace(tiny_backbone(kind).spec, blocks=42)  # as deep as CogVideoX-5B, but narrower
    assert recommended(spec) == replace(PRESETS[checkpoint].recommended, block=21)


def test_a_family_without_a_preset_has_values_too() -> None:
    spec = replace(tiny_backbone("rotary").spec, transformer="AnotherTransformer")
    assert recommended(spec).variable == "rotary_tables"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"blok": 5}, "mine.yaml has the unknown field 'blok': it takes checkpoint, model"),
        ({"licence": None}, "mine.yaml lacks the field 'licence'"),
        ({"status": "guessed"}, "it is published or measured here or never run"),
        ({"recommended": {}}, "recommended in mine.yaml lacks the field 'block'"),
        ({"recommended": 3}, "recommended in mine.yaml is no mapping"),
        ({"begin": "there"}, "recommended in mine.yaml has the begin 'there': it is own or field"),
        ({"passes": "all"}, "has the passes 'all': it is both or conditional"),
        ({"noise_share": 1.5}, "has the noise_share 1.5: it is a number from 0 to 1"),
        ({"instant_noise_share": "half"}, "has the instant_noise_share 'half': it is a number"),
        ({"instant_window": -1}, "has the instant_window -1: it is a number from 0 to 1"),
        ({"inner_steps": 0}, "has the inner_steps 0: it is a whole number from 1 up"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, change, sentence) -> None:
    source = next(iter(presets()))
    advice = asdict(source.recommended)
    if change.keys() <= advice.keys():
        change = {"recommended": advice | change}
    content = {
        "checkpoint": source.checkpoint,
        "model": source.model,
        "status": source.status,
        "source": source.source,
        "licence": source.licence,
        "frames": source.frames,
        "size": list(source.size),
        "recommended": {},
    } | change
    file = tmp_path / "mine.yaml"
    kept = {key: value for key, value in content.items() if value is not None}
    file.write_text(json.dumps(kept))  # which is YAML
    with pytest.raises(ValueError, match=sentence):
        read_preset(file)


def test_the_table_has_a_row_for_each_preset() -> None:
    head, rule, *rows = table().splitlines()
    assert {row.split("`")[1] for row in rows} == set(PRESETS)
    assert {line.count(" | ") for line in (head, rule, *rows)} == {head.count(" | ")}
