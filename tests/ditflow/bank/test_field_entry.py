"""A motion field as an entry: exact round trip, and refusal of all that is none."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save

from ditflow.bank import BankEntry, EntryError, FieldEntry, FieldMetadata
from ditflow.bank.file_format import pack
from ditflow.bank.kinds.field_entry import FIELDS
from ditflow.fields.field import FARTHEST, FieldError, FieldSource, MotionField
from tests.ditflow.bank.entries import (
    assert_same,
    make_entry,
    make_field_entry,
    make_field_metadata,
    replaced,
)

KIND = FieldEntry.KIND


def make_field(**changes: object) -> MotionField:
    return dataclasses.replace(make_field_entry().field, **changes)


def provenance(**changes: object) -> dict[str, object]:
    told = make_field_metadata(**changes).as_dict()
    return {name: value for name, value in told.items() if name not in ("times", "method")}


def forged(metadata: dict[str, object], **tensors: torch.Tensor) -> bytes:
    return b"".join(pack(KIND, "", metadata, make_field_entry().tensors() | tensors))


def zeros(*shape: int) -> dict[str, torch.Tensor]:
    count, *cells = shape
    displacement = torch.zeros(count, 2, *cells, dtype=torch.float16)
    return {"displacement": displacement, "confidence": displacement[:, 0]}


def test_round_trip_is_exact():
    entry = make_field_entry()
    again = FieldEntry.from_bytes(entry.to_bytes("kite"))
    assert_same(again, entry)
    assert again.to_bytes("kite") == entry.to_bytes("kite")
    assert again.metadata == FieldMetadata.from_dict(entry.metadata.as_dict())


def test_a_field_comes_back_as_it_was_in_float16():
    field = make_field()
    again = FieldEntry.from_bytes(FieldEntry.of(field, **provenance()).to_bytes()).field
    torch.testing.assert_close(again.displacement, field.displacement, rtol=0, atol=0)
    torch.testing.assert_close(again.confidence, field.confidence, rtol=0, atol=0)
    assert again.displacement.dtype == again.confidence.dtype == torch.float32
    told = ("times", "frames", "aspect", "source")
    assert all(getattr(again, name) == getattr(field, name) for name in told)


def test_float16_rounds_by_half_a_unit_in_the_last_place():
    """11 bits of precision: a displacement changes by at most 2**-11 of itself."""
    displacement = torch.rand(3, 2, 4, 5) + 0.01
    kept = FieldEntry.of(make_field(displacement=displacement), **provenance()).field.displacement
    torch.testing.assert_close(kept, displacement, rtol=2**-11, atol=0)


def test_the_clip_is_named_as_the_field_names_it():
    told = provenance()
    del told["clip"]
    entry = FieldEntry.of(make_field(source=FieldSource("raft", "boat.mp4")), **told)
    assert (entry.metadata.clip, entry.metadata.method) == ("boat.mp4", "raft")


def test_what_goes_farther_than_any_motion_is_refused():
    far = torch.full((3, 2, 4, 5), FARTHEST)
    entry = FieldEntry.of(make_field(displacement=-far), **provenance())
    assert torch.equal(FieldEntry.from_bytes(entry.to_bytes()).displacement, -far.half())
    with pytest.raises(FieldError, match="goes 101 times the frame's side, and 100 is the most"):
        make_field(displacement=far + 1)
    with pytest.raises(EntryError, match="displacement holds numbers below -100 or above 100"):
        FieldEntry(entry.metadata, 2 * far.half(), entry.confidence)


@pytest.mark.parametrize("size", [(8, 24, 32), (9, 32, 24)])
def test_a_field_of_another_clip_size_is_refused(size):
    with pytest.raises(EntryError, match="is not that of the field, which has 9 frames"):
        FieldEntry.of(make_field(), **provenance(size=size))


@pytest.mark.parametrize("field", ["seconds", "date", "ditflow"])
def test_content_hash_leaves_out_what_differs_between_runs(field):
    change = {"seconds": 99.0, "date": "2030-01-01", "ditflow": "9.9"}[field]
    entry, other = make_field_entry(), make_field_entry(**{field: change})
    assert other.content_hash == entry.content_hash and other.to_bytes() != entry.to_bytes()


@pytest.mark.parametrize(
    "changes",
    [{"words": "x"}, {"method": "raft"}, {"times": (0, 2, 7)}, {"clip": "x"}, {"size": (9, 1, 1)}],
    ids=lambda changes: next(iter(changes)),
)
def test_content_hash_knows_all_other_metadata(changes):
    entry = make_field_entry()
    assert replaced(entry, **changes).content_hash != entry.content_hash


def test_content_hash_knows_each_bit_of_the_tensors():
    entry, other = make_field_entry(), make_field_entry()
    other.confidence.view(torch.int16)[2, 3, 4] ^= 1
    assert other.content_hash != entry.content_hash


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"displacement": torch.zeros(3, 2, 4, 5)}, "displacement have type torch.float32, not"),
        ({"displacement": torch.full((3, 2, 4, 5), torch.inf).half()}, "that are not finite"),
        ({"confidence": torch.full((3, 4, 5), torch.nan).half()}, "that are not finite"),
        ({"confidence": torch.full((3, 4, 5), 1.5).half()}, "numbers below 0 or above 1"),
        ({"confidence": torch.full((3, 4, 5), -0.5).half()}, "numbers below 0 or above 1"),
        ({"confidence": torch.zeros(3, 5, 4).half()}, r"not \(3, 2, 4, 5\) and \(3, 5, 4\)"),
        ({"displacement": torch.zeros(3, 3, 4, 5).half()}, r"not \(3, 3, 4, 5\)"),
        ({"displacement": torch.zeros(3).half(), "confidence": torch.zeros(3).half()}, r"\(3,\)"),
        (
            zeros(2, 4, 5),
            "a field of 2 times, and metadata of 3",
        ),
        (
            zeros(3, 0, 5),
            "has 1 to 65536 rows and columns",
        ),
    ],
)
def test_tensors_that_do_not_fit_the_metadata_are_refused(tensors, message):
    with pytest.raises(EntryError, match=message):
        FieldEntry(make_field_metadata(), **make_field_entry().tensors() | tensors)
    with pytest.raises(EntryError):  # a stranger may write them all the same
        FieldEntry.from_bytes(forged(make_field_metadata().as_dict(), **tensors))


def test_tensors_of_other_names_are_refused():
    data = pack(KIND, "", make_field_metadata().as_dict(), {"x": torch.zeros(3).half()})
    with pytest.raises(EntryError, match="holds 'displacement' and 'confidence', not"):
        FieldEntry.from_bytes(b"".join(data))


@pytest.mark.parametrize("times", [(0, 2, 2), (0, 6, 2), (0, 2, 8.5)])
def test_times_that_do_not_rise_within_the_clip_are_refused(times):
    with pytest.raises(EntryError, match="times of a field of 9 frames rise from 0 to at most 8"):
        make_field_metadata(times=times)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", 3),
        ("times", ()),
        ("times", (0.0, float("nan"))),
        ("words", None),
        ("size", (9, 24)),
        ("prompt", 5),
        ("seed", 0.5),
        ("tags", "pan"),
        ("clip_sha256", "xyz"),
        ("date", "yesterday"),
    ],
)
def test_a_wrong_field_is_named(field, value):
    with pytest.raises(EntryError, match=f"metadata: field '{field}' must be"):
        make_field_metadata(**{field: value})


def test_every_field_is_checked():
    names = {field.name for field in dataclasses.fields(FieldMetadata)}
    assert names == set(FIELDS) == set(make_field_metadata().as_dict()) | set(FieldMetadata.later)


def test_a_schema_of_the_future_is_refused():
    with pytest.raises(EntryError, match="it has schema 2, and this version of ditflow reads"):
        FieldEntry.from_bytes(forged(make_field_metadata().as_dict() | {"schema": 2}))


@pytest.mark.parametrize("name", sorted(set(FIELDS) - set(FieldMetadata.later)))
def test_no_field_may_be_missing(name):
    told = {key: value for key, value in make_field_metadata().as_dict().items() if key != name}
    with pytest.raises(EntryError, match=name):
        FieldEntry.from_bytes(forged(told))


def test_one_kind_is_not_taken_for_the_other():
    with pytest.raises(EntryError, match="no ditflow motion field but a 'ditflow bank entry'"):
        FieldEntry.from_bytes(make_entry().to_bytes())
    with pytest.raises(EntryError, match="no ditflow bank entry but a 'ditflow motion field'"):
        BankEntry.from_bytes(make_field_entry().to_bytes())


def test_each_flipped_byte_is_found():
    data = bytearray(make_field_entry().to_bytes("kite"))
    for place in range(len(data)):
        data[place] ^= 1
        with pytest.raises(EntryError):
            FieldEntry.from_bytes(bytes(data))
        data[place] ^= 1


def test_a_foreign_safetensors_file_is_refused():
    with pytest.raises(EntryError, match="was not written by ditflow"):
        FieldEntry.from_bytes(save(make_field_entry().tensors()))
