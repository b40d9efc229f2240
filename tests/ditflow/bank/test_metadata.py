"""Metadata come from strangers: each field has one type and a range, and the sentence says which
field is wrong.
"""

from __future__ import annotations

import dataclasses
import json

import pytest

from ditflow.bank import EntryError, EntryMetadata
from ditflow.bank.kinds.metadata import FIELDS
from ditflow.bank.validation import canonical_json, strict_json
from tests.ditflow.bank.entries import make_metadata

WRONG = {
    "ditflow": [1, None, "x" * 65],
    "backbone": [b"tiny", ["tiny"], "lone \ud800 surrogate"],
    "backbone_fingerprint": ["abc", "AB" * 32, "g" * 64, "ab" * 32 + "\n"],
    "grid": [(2, 3), (2, 3, 0), (2, 3, 4.0), "2x3", (True, 3, 4), (2, 3, 1 << 40)],
    "size": [None, (9, -24, 32), {"frames": 9}],
    "window": [(4, 1), (1,), (0, 11), (-1, 2)],
    "timesteps": [
        (),
        (900, 800),
        (float("nan"), 800, 700),
        ("900", 800, 700),
        (900, 800, -1),
        "900",
    ],
    "steps": [0, "10", 3.0, True],
    "scheduler": [None],
    "guidance_scale": [float("nan"), float("inf"), "7", None, True, (4.0,), (4.0, "3")],
    "guidance": [7],
    "signal": [
        "amf",
        {"block": float("nan")},
        {"tensor": object()},
        {1: 2, "1": 3},
        {"long": "x" * 70000},
        None,
    ],
    "variable": [None, "x" * 65],
    "prompt": [None, 3],
    "negative_prompt": [None],
    "seed": [1 << 64, 0.5, "7", False],
    "clip": [None],
    "clip_sha256": ["zz"],
    "start": [-1, 0.0],
    "stride": [0, None],
    "fps": [-1.0, float("nan"), None, "8"],
    "container": [None, "x" * 65],
    "reader": [None, 1],
    "learning_rate": [(0.1,), (0.1, -0.1), (0.1, float("nan")), 0.1],
    "inner_steps": [0, 2.0],
    "injection_blocks": [(-1,), 0, None],
    "dtype": [None, "x" * 65],
    "losses": [
        (),
        ((0.1,),),
        ((0.1,), (0.2,), (float("nan"),)),
        ((0.1,), 0.2, (0.3,)),
        [[0.1], [0.2], ["0.3"]],
    ],
    "seconds": [-1.0, float("inf"), "12"],
    "date": ["yesterday", 20260131, None, ""],
    "tags": ["pan", (1,), None],
    "update": [None, "x" * 65],
    "passes": [None, "x" * 65],
    "quantised": [None, "x" * 65],
    "begin": [None, "x" * 65],
    "noise_share": [None, -0.1, 1.1, float("nan")],
    "savings": [None, 3, "x" * 257],
    "loras": [None, ["a.safetensors"], [{"file": "a"}], [{"file": 1, "sha256": "", "scale": 1}]],
    "caption": [None, 3],
    "subject": [None],
    "caption_subject": [None, "lone \ud800 surrogate"],
    "image_sha256": [None, "zz"],
    "method": [None, 3],
    "times": [None, (0.0, float("nan")), (0.0, "1"), ((0.0,),)],
    "words": [None, 3],
    "schema": [2, "1", 1.0, None],
}


def test_every_field_has_wrong_values_here():
    assert set(WRONG) == set(FIELDS)


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in WRONG.items() for value in values],
    ids=lambda value: repr(value).partition(" at 0x")[0][:40],
)
def test_a_wrong_value_is_refused_by_name(field, value):
    with pytest.raises(EntryError, match="loss curves" if value == ((0.1,),) else field):
        make_metadata(**{field: value})


def test_json_round_trip_is_exact():
    metadata = make_metadata(
        signal={"blocks": [1, 2], "weights": (0.5, 1e-300), "nested": {"ü": None}},
        seed=(1 << 64) - 1,
        guidance_scale=6,
    )
    again = EntryMetadata.from_dict(strict_json(canonical_json(metadata.as_dict())))
    assert again == metadata
    assert canonical_json(again.as_dict()) == canonical_json(metadata.as_dict())


def test_lists_become_tuples_and_integers_numbers():
    metadata = make_metadata(grid=[2, 3, 4], losses=[[1, 2], [], [3]], guidance_scale=6)
    assert (
        metadata.grid == (2, 3, 4)
        and metadata.losses == ((1.0, 2.0), (), (3.0,))
        and isinstance(metadata.guidance_scale, float)
    )


def test_a_stranger_may_neither_add_nor_leave_out_fields():
    fields = make_metadata().as_dict()
    with pytest.raises(EntryError, match="unknown field 'color'"):
        EntryMetadata.from_dict(fields | {"color": "red"})
    with pytest.raises(EntryError, match="no field 'seed'"):
        EntryMetadata.from_dict({name: value for name, value in fields.items() if name != "seed"})


def test_a_newer_schema_is_refused_first_with_the_fix():
    with pytest.raises(
        EntryError, match=r"schema 2, and this version of ditflow reads schema 1. Update ditflow"
    ):
        EntryMetadata.from_dict({"schema": 2, "whatever": "comes"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"a":1,"a":2}',
        '{"a":NaN}',
        '{"a":-Infinity}',
        '{"a":' + "[" * 100000,
        '{"a":' + "9" * 5000 + "}",
        '{"a":1}x',
        "{'a':1}",
    ],
    ids=lambda text: text[:20],
)
def test_json_that_is_not_strict_is_refused(text):
    with pytest.raises(ValueError):
        strict_json(text)


def test_canonical_json_has_one_form():
    assert (
        canonical_json({"b": [1, 2.5], "a": "ü"})
        == '{"a":"\\u00fc","b":[1,2.5]}'
        == canonical_json(json.loads('{ "a": "ü", "b": [1, 2.50] }'))
    )
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})


def test_entries_of_before_read_as_they_were_meant_and_keep_their_bytes():
    """What came later is absent where it says what was always done, so an older entry's hash is the
    same today.
    """
    old = make_metadata().as_dict()
    assert not {"update", "caption", "subject", "caption_subject", "image_sha256"} & set(old)
    again = EntryMetadata.from_dict(old)
    assert (again.update, again.caption) == ("adam", "") and again.as_dict() == old
    new = dataclasses.replace(again, update="score", caption="a cat")
    assert (
        set(new.as_dict()) - set(old) == {"update", "caption"}
        and EntryMetadata.from_dict(new.as_dict()) == new
    )
