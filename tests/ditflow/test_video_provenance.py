"""How a video was made: in and out of a file, what cannot be is refused, and what None stood for is
what acts.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from ditflow import (
    Injection,
    VideoProvenance,
    describe_injection,
    inject_motion,
    read_provenance,
    write_video,
)
from ditflow.bank import BankEntry
from ditflow.core.sizes import VideoSize
from ditflow.video import VideoError, encode_video
from ditflow.video_provenance import FIELDS, LONGEST, as_named, installed
from tests.ditflow.bank.entries import make_entry, make_field_entry
from tests.registry import SIZE, tiny_backbone

FRAMES = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
MADE = VideoProvenance(
    prompt="a cat",
    seed=3,
    backbone="tiny-rope",
    backbone_fingerprint="f" * 64,
    dtype="float32",
    size=(2, 16, 16),
    fps=8.0,
    steps=4,
    guidance_scale=7.0,
    guidance="constant",
)


def written(folder: Path, comment: str) -> Path:
    file = folder / "video.mp4"
    file.write_bytes(encode_video(FRAMES, 8, comment=comment))
    return file


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prompt": 'she said "go",\nthen \\ went 😀\t\x00', "negative_prompt": "null"},
        {"prompt": "😀" * (1 << 16), "negative_prompt": "\x01" * (1 << 16)},
        {"seed": (1 << 64) - 1, "strength": -0.5, "motion_scale": 2.5, "passes": "both"},
        {"window": (1, 3), "noise_share": 0.5, "guidance_scale": (3.0, 4.0)},
        {"window": "noise:0.9", "injection_blocks": (0, 3)},
        {"window": 0.8, "versions": {"ditflow": "0", "torch": "1", "diffusers": "2"}},
        {"loras": ({"file": "a/b.safetensors", "sha256": "0" * 64, "scale": 0.5},)},
        {"optimised": {"signal": {"name": "amf", "block": 2}}, "command": "fit"},
    ],
)
def test_a_file_gives_back_what_was_written(tmp_path, changes):
    made = dataclasses.replace(MADE, **changes)
    write_video(tmp_path / "video.mp4", FRAMES, 8, made=made)
    assert read_provenance(tmp_path / "video.mp4") == made


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": "3"}, "field 'seed' must be an integer"),
        ({"prompt": "\ud83d"}, "field 'prompt' must be text"),
        ({"prompt": "x" * ((1 << 16) + 1)}, "at most 65536 characters"),
        ({"size": (2, 16)}, "field 'size' must be a list of 3 values"),
        ({"strength": math.nan}, "field 'strength' must be a finite number"),
        ({"window": 1.5}, "field 'window' must be a fraction from 0 to 1"),
        ({"window": {}}, "field 'window' must be a fraction from 0 to 1"),
        ({"window": (1, 2, 3)}, "field 'window' must be a fraction from 0 to 1"),
        ({"noise_share": -1}, "field 'noise_share' must be a finite number from 0 to 1"),
        ({"entry_sha256": "f"}, "field 'entry_sha256' must be a sha256"),
        ({"versions": {"torch": "1"}}, "field 'versions' has no field"),
        ({"versions": installed() | {"torch": "\x1b[2J"}}, r"must be a version .*'\\x1b\[2J'"),
        ({"versions": installed() | {"torch": "\x9b2J"}}, "must be a version of at most 64"),
        ({"versions": installed() | {"torch": "1\n"}}, "must be a version of at most 64"),
        ({"versions": installed() | {"torch": "1" * 65}}, "must be a version of at most 64"),
        ({"versions": installed() | {"\x1b[2J": "1"}}, r"has an unknown field '\\x1b\[2J'"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(MADE, **changes)


VALUES = json.loads(MADE.to_json())


def test_no_control_character_is_in_the_file(tmp_path):
    """Of C0, C1 or of directions of text, which a program that prints the comment would obey."""
    evil = "\x1b[2J \x7f \x9b31m \x85 \u202e \u2028 \U000e0001 é 猫 😀"
    made = dataclasses.replace(MADE, prompt=evil, clip=evil)
    text = made.to_json()
    assert text.isprintable() and "é 猫 😀" in text
    assert read_provenance(written(tmp_path, text)) == made


@pytest.mark.parametrize(
    "comment",
    ["", "a film of my cat", "{}", '{"prompt": "a cat"}', '{"workflow": {"nodes": []}}', "[1, 2]"],
)
def test_another_video_does_not_say_how_it_was_made(tmp_path, comment):
    file = written(tmp_path, comment)
    with pytest.raises(VideoError, match="does not say how it was made: ditflow did not write it"):
        read_provenance(file)


@pytest.mark.parametrize(
    ("comment", "sentence"),
    [
        (MADE.to_json()[:-9], "cannot be read: "),
        ('["ditflow"]', "it is no JSON object"),
        ('{"ditflow": 1}', "it has no field 'prompt'"),
        ('{"ditflow": 1, "ditflow": 1}', "a key appears twice"),
        (
            json.dumps(VALUES | {"ditflow": 2}),
            "its format is 2, and this version of ditflow reads 1",
        ),
        (json.dumps(VALUES | {"code": "print()"}), "it has an unknown field 'code'"),
        (json.dumps(VALUES | {"seed": [1]}), "field 'seed' must be an integer"),
        (json.dumps(VALUES | {"steps": "9" * 9999}), "field 'steps' must be an integer"),
        (json.dumps(VALUES).replace(": 3,", f": {'9' * 9999},"), "cannot be read: "),
        (json.dumps(VALUES | {"fps": math.inf}), "Infinity is no JSON number"),
        ('{"ditflow": ' + "[" * 99_999, "it is nested too deeply"),
        (json.dumps(VALUES | {"prompt": "x" * LONGEST}), "characters are more than"),
    ],
)
def test_metadata_that_were_damaged_or_forged(tmp_path, comment, sentence):
    file = written(tmp_path, comment)
    with pytest.raises(VideoError) as raised:
        read_provenance(file)
    said = str(raised.value)
    assert sentence in said and said.startswith(f"{file} says how it was made in metadata that")
    assert len(said) < len(str(file)) + 400


def test_a_name_does_not_tell_where_the_user_lives(monkeypatch):
    monkeypatch.setenv("HOME", "/home/jane")
    assert as_named("/home/jane/banks/a") == "~/banks/a"
    kept = ("bank/", "/home/janet/a", "s3://bucket/bank", "/mnt/home/jane/a", "../bank", "")
    assert [as_named(name) for name in kept] == list(kept)
    assert as_named("b\udcff") == "b?", "a file's name that is no text"
    assert dataclasses.replace(MADE, backbone="/home/jane/model").backbone == "~/model"


# masks are what the change names
OPTIONS = [field for field in dataclasses.fields(Injection) if field.name != "masks"]


def test_every_option_of_an_injection_is_told():
    """One that is added to `Injection` is a field here, and an option in `--again`."""
    from trainers.commands.again import OF_MODEL

    options = {field.name for field in OPTIONS}
    assert options <= FIELDS.keys() and options <= set(OF_MODEL)
    assert FIELDS.keys() == {field.name for field in dataclasses.fields(VideoProvenance)}


@pytest.mark.parametrize("kind", ["rotary", "sinusoidal"])
@pytest.mark.parametrize("how", [None, Injection(strength=0.5, motion_scale=2.0)])
def test_what_none_stands_for_is_what_acts(kind, how):
    """The same video, whether it is asked for by None or by what the provenance says."""
    backbone, field = tiny_backbone(kind), make_field_entry(1)
    size, steps = SIZE, 4
    asked = dict(seed=5, steps=steps, size=size, how=how)
    made = describe_injection(backbone, field, "a cat", fps=8, **asked)
    assert (made.clip, made.entry_sha256) == (field.metadata.clip, field.content_hash)
    assert None not in (made.window, made.noise_share) and made.negative_prompt
    acting = Injection(**{one.name: getattr(made, one.name) for one in OPTIONS})
    again = inject_motion(
        backbone,
        field,
        made.prompt,
        seed=made.seed,
        negative_prompt=made.negative_prompt,
        steps=made.steps,
        guidance_scale=made.guidance_scale,
        guidance_kind=made.guidance,
        size=VideoSize(*made.size),
        how=acting,
    )
    first = inject_motion(backbone, field, "a cat", **asked)
    assert (again.float() - first.float()).abs().mean() < 0.1, "but for how numbers are rounded"


def test_an_optimised_entry_brings_its_own_settings():
    entry = make_entry(1)
    assert isinstance(entry, BankEntry)
    own = entry.metadata
    made = describe_injection(tiny_backbone("rotary"), entry, "a cat", fps=8)
    assert (made.size, made.steps, made.passes) == (own.size, own.steps, own.passes)
    assert (made.guidance_scale, made.guidance) == (own.guidance_scale, own.guidance)
    assert (made.negative_prompt, made.window, made.noise_share) == (
        own.negative_prompt,
        None,
        None,
    )
    assert made.entry_sha256 == entry.content_hash
