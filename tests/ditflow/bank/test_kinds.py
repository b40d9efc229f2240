"""A bank that holds entries of both kinds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ditflow.bank import BankEntry, BankError, FieldEntry, MotionBank
from ditflow.bank.kinds import KINDS
from tests.ditflow.bank.entries import assert_same, make_entry, make_field_entry

ENTRIES = {"boat": make_entry(1), "kite": make_field_entry(2), "tree": make_field_entry(3)}


@pytest.fixture
def bank(tmp_path):
    bank = MotionBank(tmp_path / "bank", create=True)
    bank.update(ENTRIES)
    return bank


def test_each_kind_has_a_name_of_its_own():
    assert set(KINDS.values()) == {BankEntry, FieldEntry}


def test_a_bank_takes_and_gives_both_kinds(bank):
    for name, entry in ENTRIES.items():
        assert type(bank[name]) is type(entry)
        assert_same(bank[name], entry)
        assert bank.metadata(name) == entry.metadata
        assert bank.content_hash(name) == entry.content_hash
        assert not bank.keeps_reference(name)
    assert bank.verify() == []


def test_one_kind_does_not_silently_replace_the_other(bank):
    with pytest.raises(BankError, match="already holds an entry 'boat'"):
        bank["boat"] = ENTRIES["kite"]
    bank.put("boat", ENTRIES["kite"], overwrite=True)
    assert_same(bank["boat"], ENTRIES["kite"])
    bank["boat"] = ENTRIES["kite"]  # the same again is no conflict


def test_rows_tell_the_kinds_apart(bank):
    rows = {row.name: row for row in bank.index()}
    assert [rows[name].variable for name in ENTRIES] == ["rotary_positions", "instant", "instant"]
    assert (rows["kite"].grid, rows["kite"].guided, rows["kite"].backbone) == ((3, 4, 5), 0, "")
    assert rows["kite"].prompt == ENTRIES["kite"].metadata.prompt
    assert bank.reindex() == 3
    assert list(bank.index()) == list(rows.values())  # read back from the index file


def test_copies_between_banks_keep_both_kinds(bank, tmp_path):
    target = MotionBank(tmp_path / "target", create=True)
    assert all(bank.copy_to(name, target) for name in ENTRIES)
    assert not any(bank.copy_to(name, target) for name in ENTRIES)
    for name, entry in ENTRIES.items():
        assert_same(target[name], entry)


def test_a_damaged_field_is_named(bank, tmp_path):
    file = tmp_path / "bank" / "entries" / "kite.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert bank.verify() == [
        "entry 'kite' is damaged: its tensors do not have the sha256 that its header gives."
    ]


def test_looking_loads_no_torch(bank):
    code = (
        "import sys; from ditflow.bank import MotionBank; bank = MotionBank(sys.argv[1]); "
        "bank.metadata('kite'); bank.content_hash('kite'); list(bank.index()); bank.verify(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, bank.path], check=True)
