"""One entry as bytes: exact round trip, equal bytes for equal entries, and no damage that goes
unnoticed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from ditflow.bank import BankEntry, EntryError, FieldEntry
from ditflow.bank.file_format import MAX_HEADER, Header, Slot, pack, read_header, write_header
from ditflow.bank.kinds.entry import KIND
from ditflow.bank.kinds.metadata import FIELDS
from ditflow.bank.validation import canonical_json
from ditflow.fields import FieldSource, MotionField
from tests.ditflow.bank.entries import (
    SHAPES,
    assert_same,
    make_entry,
    make_field_entry,
    make_metadata,
    replaced,
)


@pytest.mark.parametrize("latents", [False, True])
@pytest.mark.parametrize("variable", SHAPES)
def test_round_trip_is_exact(variable, latents):
    entry = make_entry(variable=variable, latents=latents)
    again = BankEntry.from_bytes(entry.to_bytes("kite"))
    assert_same(again, entry)
    assert again.to_bytes("kite") == entry.to_bytes("kite")


def test_safetensors_reads_it(tmp_path):
    entry = make_entry(latents=True)
    (tmp_path / "kite.safetensors").write_bytes(entry.to_bytes("kite"))
    with safe_open(tmp_path / "kite.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("parameters"), entry.parameters)
        assert torch.equal(file.get_tensor("reference_latents"), entry.reference_latents)
        assert json.loads(file.metadata()["metadata"])["prompt"] == entry.metadata.prompt
        assert file.metadata()["name"] == "kite"


def test_special_numbers_keep_their_bits():
    parameters = torch.zeros(3, 2, 24, 3)
    parameters[0, 0, 0] = torch.tensor([-0.0, 1e-45, 3.4e38])
    entry = BankEntry(make_metadata(), parameters)
    assert torch.equal(
        BankEntry.from_bytes(entry.to_bytes()).parameters.view(torch.int32),
        parameters.view(torch.int32),
    )


def test_parameters_of_a_graph_or_of_a_view_are_written():
    parameters = torch.randn(3, 3, 24, 2, requires_grad=True).transpose(1, 3)
    assert not parameters.is_contiguous() and parameters.requires_grad
    entry = BankEntry(make_metadata(), parameters)
    assert torch.equal(BankEntry.from_bytes(entry.to_bytes()).parameters, parameters.detach())


@pytest.mark.parametrize("field", ["seconds", "date", "ditflow"])
def test_content_hash_leaves_out_what_differs_between_runs(field):
    entry = make_entry()
    other = replaced(
        entry, **{field: {"seconds": 99.0, "date": "2030-01-01", "ditflow": "9.9"}[field]}
    )
    assert other.content_hash == entry.content_hash and other.to_bytes() != entry.to_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "x"},
        {"seed": 8},
        {"clip": "x"},
        {"losses": ((0.9, 0.8), (0.5, 0.4), (0.3, 0.250000001))},
        {"tags": ()},
        {"steps": 11},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_content_hash_knows_all_other_metadata(changes):
    entry = make_entry()
    assert replaced(entry, **changes).content_hash != entry.content_hash


def test_content_hash_knows_each_bit_of_the_tensors():
    entry, other = make_entry(latents=True), make_entry(latents=True)
    other.parameters.view(torch.int32)[2, 1, 23, 2] ^= 1
    assert other.content_hash != entry.content_hash
    assert make_entry(latents=False).content_hash != make_entry(latents=True).content_hash


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"parameters": torch.zeros(3, 2, 24, 3, dtype=torch.float64)},
            "parameters have type torch.float64, not torch.float32",
        ),
        (
            {"parameters": torch.full((3, 2, 24, 3), torch.nan)},
            "parameters hold numbers that are not finite",
        ),
        ({"parameters": torch.zeros(2, 2, 24, 3)}, "parameters of 2 steps, and metadata of 3"),
        (
            {"parameters": torch.zeros(3, 2, 25, 3)},
            r"shape \(2, 24, 3\) at each step, and the parameters have \(2, 25, 3\)",
        ),
        ({"parameters": torch.zeros(3, 2, 24)}, r"the parameters have \(2, 24\)"),
        ({"parameters": torch.zeros(())}, "parameters of 0 steps"),
        (
            {"parameters": torch.zeros(3, 2, 24, 3), "reference_latents": torch.zeros(2, 4, 6)},
            "reference latents have shape",
        ),
    ],
)
def test_tensors_that_do_not_fit_the_metadata_are_refused(tensors, message):
    with pytest.raises(EntryError, match=message):
        BankEntry(make_metadata(), **tensors)
    with pytest.raises(EntryError):  # a stranger may write them all the same
        BankEntry.from_bytes(b"".join(pack(KIND, "", make_metadata().as_dict(), tensors)))


def test_a_variable_of_the_future_has_any_shape():
    entry = BankEntry(make_metadata(variable="keys"), torch.zeros(3, 5, 7))
    assert_same(BankEntry.from_bytes(entry.to_bytes()), entry)


def test_each_flipped_bit_is_found():
    data = bytearray(make_entry().to_bytes("kite"))
    header = 8 + int.from_bytes(data[:8], "little")
    places = [*range(8 * header), *range(8 * header, 8 * len(data), 97)]
    unnoticed = []
    for place in places:
        data[place // 8] ^= 1 << place % 8
        try:
            BankEntry.from_bytes(bytes(data))
            unnoticed.append(place)
        except EntryError:
            pass
        data[place // 8] ^= 1 << place % 8
    assert unnoticed == []


def test_each_truncation_is_found():
    data = make_entry(latents=True).to_bytes("kite")
    for length in range(0, len(data), 13):
        with pytest.raises(EntryError):
            BankEntry.from_bytes(data[:length])
    with pytest.raises(EntryError, match="3 bytes more"):
        BankEntry.from_bytes(data + b"abc")


def forged(slots: dict[str, Slot], body: bytes, **changes: object) -> bytes:
    """A record with sums that fit: only its claims are wrong."""
    header = Header(
        "", KIND, "", make_metadata().as_dict() | changes, slots, hashlib.sha256(body).hexdigest()
    )
    return write_header(header) + body


@pytest.mark.parametrize(
    ("slots", "body", "message"),
    [
        (
            {"parameters": Slot("F32", (3, 2, 24, 3), 0, 1728)},
            b"",
            "truncated: its tensors claim 1728 bytes",
        ),
        (
            {"parameters": Slot("F32", (1 << 30, 2), 0, 1 << 33)},
            b"",
            "truncated: its tensors claim 8589934592 bytes",
        ),
        ({"parameters": Slot("F32", (1 << 60,), 0, 1 << 62)}, b"", "impossible shape"),
        ({"parameters": Slot("F32", (0, 1 << 33, 1 << 33), 0, 0)}, b"", "cannot lie"),
        ({"parameters": Slot("F32", (3, 2, 24, 3), 0, 4)}, bytes(4), "cannot lie in 4 bytes"),
        ({"parameters": Slot("F32", (-1, -1), 0, 4)}, bytes(4), "impossible shape"),
        ({"parameters": Slot("F32", (1,) * 9, 0, 4)}, bytes(4), "impossible shape"),
        ({"parameters": Slot("C64", (1,), 0, 8)}, bytes(8), "'C64' is no type of number"),
        ({"parameters": Slot("F32", (3, 2, 24, 3), 4, 1732)}, bytes(1732), "overlap or leave gaps"),
        (
            {"a": Slot("F32", (1,), 0, 4), "b": Slot("F32", (1,), 0, 4)},
            bytes(4),
            "overlap or leave gaps",
        ),
        (
            {"parameters": Slot("F16", (3, 2, 24, 3), 0, 864)},
            bytes(864),
            "holds F32 numbers, not F16",
        ),
        (
            {"parameters": Slot("F32", (3, 2, 9, 3), 0, 648)},
            bytes(648),
            r"shape \(2, 24, 3\) at each step",
        ),
        ({"weights": Slot("F32", (3, 2, 24, 3), 0, 1728)}, bytes(1728), "not .'weights'."),
        ({}, b"", "an entry holds 'parameters'"),
    ],
)
def test_forged_claims_are_refused(slots, body, message):
    with pytest.raises(EntryError, match=message):
        BankEntry.from_bytes(forged(slots, body))


JUNK = [
    None,
    True,
    -1,
    0,
    1,
    3,
    1 << 70,
    0.5,
    1e308,
    "",
    "x",
    "\ud800",
    "\0",
    "../x",
    [],
    [1],
    [[1.0]],
    [1, 2, 3],
    [0, 1 << 40, 1],
    {},
    {"a": [{}]},
    [None] * 3,
]


def test_random_claims_with_sums_that_fit_are_refused_or_sound():
    """Whatever a stranger writes into any field or slot: an EntryError or an entry that passes
    every check, and nothing else.
    """
    choose, refused = random.Random(0), 0
    for _ in range(1000):
        changes = {
            field: choose.choice(JUNK)
            for field in choose.sample(sorted(FIELDS), choose.choice([0, 1, 1, 2, 5]))
        }
        slot = [
            choose.choice(["F32", "F16", "U8", "X", "", 7]),
            choose.choice([[3, 2, 24, 3], [3, 2, 24], [-3], [0], [1 << 40], "abc", None, 3, [[1]]]),
            choose.choice([0, 8, -1]),
            1728,
        ]
        slots = {
            "parameters": Slot("F32", (3, 2, 24, 3), 0, 1728)
            if choose.random() < 0.5
            else Slot(*slot)
        }
        try:
            data = forged(slots, bytes(1728), **changes)
        except TypeError:  # our own writer refuses before it is a file
            continue
        try:
            assert BankEntry.from_bytes(data).content_hash
        except EntryError:
            refused += 1
    assert refused > 500


def test_claims_are_compared_before_memory_is_taken(monkeypatch):
    """The grid and the tensors agree with each other on 8 GiB, and the file has none of them."""
    monkeypatch.setattr(
        "ditflow.bank.kinds.base.read_tensors",
        lambda *_: pytest.fail("memory for tensors was taken"),
    )
    slots = {"parameters": Slot("F32", (3, 2, 1 << 24, 3), 0, 3 * 2 * 3 * 4 << 24)}
    with pytest.raises(EntryError, match="truncated"):
        BankEntry.from_bytes(forged(slots, b"", grid=(1 << 8, 1 << 8, 1 << 8)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95",
        bytes(8),
        (1 << 62).to_bytes(8, "little") + b"{}",
        (MAX_HEADER + 1).to_bytes(8, "little") + b" " * (MAX_HEADER + 1),
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{}",
        (6).to_bytes(8, "little") + b"\xff\xfe\xff\xfe{}",
        (26).to_bytes(8, "little") + b'{"__metadata__":{"kind":1}}'[:26],
        (22).to_bytes(8, "little") + b'{"__metadata__":"kind"}'[:22],
        (60).to_bytes(8, "little") + b"[" * 60,
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_no_entry_is_refused(data):
    with pytest.raises(EntryError):
        BankEntry.from_bytes(data)


def test_a_foreign_safetensors_file_is_refused():
    with pytest.raises(EntryError, match="was not written by ditflow"):
        BankEntry.from_bytes(save({"parameters": torch.zeros(2)}))
    with pytest.raises(EntryError, match="was not written by ditflow"):
        BankEntry.from_bytes(save({"parameters": torch.zeros(2)}, {"kind": KIND, "name": "x"}))


def test_a_pickle_is_data(tmp_path):
    class Plant:
        def __reduce__(self):
            return (open, (str(tmp_path / "planted"), "w"))

    torch.save(Plant(), tmp_path / "evil.safetensors")
    with pytest.raises(EntryError):
        BankEntry.from_bytes((tmp_path / "evil.safetensors").read_bytes())
    assert not (tmp_path / "planted").exists()


def test_records_hold_every_kind_of_tensor():
    tensors = {
        str(number): torch.arange(5).to(dtype)
        for number, dtype in enumerate(
            [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
        )
    }
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}
    data = b"".join(pack("test", "x", {}, tensors))
    again = load(data)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in again.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()
    }
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    assert canonical_json({}) in data.decode(errors="replace")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"displacement": None}, "an entry holds 'confidence', 'displacement', 'parameters' and"),
        ({"confidence": torch.zeros(2, 3, 4)}, r"displacement \(F, 2, H, W\) and confidence"),
        (
            {"confidence": torch.full((9, 8, 11), 2.0)},
            "confidence holds numbers below 0 or above 1",
        ),
        ({"metadata": make_metadata(seed=0)}, "an entry holds 'parameters' and perhaps"),
    ],
)
def test_a_motion_that_does_not_fit_its_entry_is_refused(change, message):
    moving = make_entry().with_motion(wandering(), "pans left")
    with pytest.raises(EntryError, match=message):
        dataclasses.replace(moving, **change)


def test_a_motion_is_read_without_torch_as_it_is_with_it():
    for entry in (make_entry().with_motion(wandering(), "pans left"), make_field_entry()):
        file = io.BytesIO(data := entry.to_bytes("kite"))
        field = entry.read_motion(file, read_header(file, len(data), "x")).field
        assert torch.equal(field.displacement, entry.field.displacement)
        assert torch.equal(field.confidence, entry.field.confidence)
        told = "times", "frames", "aspect", "source"
        assert [getattr(field, name) for name in told] == [
            getattr(entry.field, name) for name in told
        ]


@pytest.mark.parametrize("kind", [BankEntry, FieldEntry])
@pytest.mark.parametrize(
    ("name", "number", "message"),
    [
        ("displacement", torch.nan, "the entry: tensors: displacement hold numbers that are not"),
        ("confidence", 1.5, "the entry: tensors: confidence holds numbers below 0 or above 1"),
    ],
)
def test_numbers_that_are_no_motion_are_refused_without_torch(kind, name, number, message):
    moving = make_entry().with_motion(wandering(), "pans left")
    entry = moving if kind is BankEntry else make_field_entry()
    getattr(entry, name)[0, 0, 0] = number  # as a stranger may write it: the sums are right
    file = io.BytesIO(data := entry.to_bytes("kite"))
    with pytest.raises(EntryError, match=message):
        kind.read_motion(file, read_header(file, len(data), "the entry"))


def test_the_motion_is_read_without_the_parameters():
    """Which may be large: their bytes are not asked for, so that even damage is not seen."""
    moving = make_entry().with_motion(wandering(), "pans left")
    data = bytearray(moving.to_bytes("kite"))
    data[-1] ^= 1
    file = io.BytesIO(data)
    field = BankEntry.read_motion(file, read_header(file, len(data), "x")).field
    assert torch.equal(field.displacement, moving.field.displacement)
    file = io.BytesIO(data)
    with pytest.raises(EntryError, match="do not have the sha256"):
        BankEntry.read(file, read_header(file, len(data), "x"))


def wandering() -> MotionField:
    """A motion of a clip of the size that entries here are of."""
    generator = torch.Generator().manual_seed(0)
    moved = torch.randn(9, 2, 24, 32, generator=generator) / 10
    times = tuple(map(float, range(9)))
    return MotionField(moved, torch.ones(9, 24, 32), times, 9, 32 / 24, FieldSource("dis", "a"))
