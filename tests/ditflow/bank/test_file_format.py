"""What a header that cannot be read is said to lack, in words without stray quotes."""

from __future__ import annotations

import io
import json

import pytest

from ditflow.bank.errors import EntryError
from ditflow.bank.file_format import ENVELOPE, read_header

ENVELOPED = {"__metadata__": dict.fromkeys(sorted(ENVELOPE), "{}")}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({}, "it was not written by ditflow"),
        (
            ENVELOPED | {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
            "'F99' is no type of number",
        ),
        (ENVELOPED | {"a": {"dtype": "F32", "shape": [1]}}, "'data_offsets' is missing"),
        (ENVELOPED, "it is damaged, for it does not have the sha256 written in it"),
    ],
)
def test_the_reason_is_said_without_quotes_around_it(header, reason):
    encoded = json.dumps(header).encode()
    file = len(encoded).to_bytes(8, "little") + encoded
    with pytest.raises(EntryError) as caught:
        read_header(io.BytesIO(file), len(file), "entry 'pan'")
    assert str(caught.value) == f"entry 'pan' has a header that cannot be read: {reason}."
