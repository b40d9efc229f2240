"""How much memory may be taken, as people write it."""

from __future__ import annotations

import pytest

from ditflow.models import ModelError
from ditflow.models.weights.budget import bytes_of, sized

SAID = {
    "24GiB": 24 * 2**30,
    "24 gib": 24 * 2**30,
    "24GB": 24 * 10**9,
    "0.5 TB": 5 * 10**11,
    "512MiB": 2**29,
    "80e9": 80 * 10**9,
    24 * 2**30: 24 * 2**30,
    8e10: 80 * 10**9,
}


@pytest.mark.parametrize("said", SAID)
def test_an_amount_is_what_people_write(said: int | float | str) -> None:
    assert bytes_of(said) == SAID[said]


@pytest.mark.parametrize("said", ["", "lots", "24G", "24 GB free", "nan", "-3GiB", "1.2.3GB"])
def test_what_is_no_amount_is_refused(said: str) -> None:
    with pytest.raises(ModelError, match=r"is no amount: write 24GiB, 24GB, or"):
        bytes_of(said)


@pytest.mark.parametrize("said", ["24", 24, 0, "1e999GB", "0.1MB"])
def test_a_number_whose_unit_was_forgotten_is_refused(said: int | str) -> None:
    with pytest.raises(ModelError, match=r"bytes: name its unit, such as 24GiB\.$"):
        bytes_of(said)


def test_bytes_are_told_as_they_were_asked_for() -> None:
    assert (sized(bytes_of("24GiB")), sized(bytes_of("512MiB"))) == ("24 GiB", "512 MiB")
