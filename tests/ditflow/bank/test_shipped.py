"""The bank that comes with ditflow: opened by its name, and never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ditflow.bank import BankError, BankStorageError, MotionBank
from ditflow.bank.leases import Leases
from ditflow.bank.search import rows
from ditflow.resources import shipped

HOME = shipped("checkpoints/banks", "starter")


def files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in HOME.rglob("*") if path.is_file()}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_opened_by_its_name_anywhere(elsewhere):
    bank = MotionBank("starter")
    assert len(bank) >= 24 and bank.verify() == []
    assert bank["pan-left"].field.source.clip == "pan-left"
    assert list(MotionBank("starter/")) == list(bank)


def test_it_is_small():
    assert sum(map(len, files().values())) <= 3_000_000


def test_nothing_in_it_is_changed(elsewhere):
    before, bank = files(), MotionBank("starter", create=True)
    changes = (
        lambda: bank.put("mine", bank["zoom-in"]),
        lambda: bank.put("orbit", bank["zoom-in"], overwrite=True),
        lambda: bank.pop("orbit"),
        bank.reindex,
        lambda: bank.mark_failed("mine", "too short"),
        lambda: Leases(bank, "me").acquire("orbit"),
    )
    for change in changes:
        with pytest.raises(BankStorageError, match="ditflow bank export starter mine/ NAME"):
            change()
    assert files() == before and list(elsewhere.iterdir()) == []


def test_the_fix_that_is_named_works(elsewhere):
    mine = MotionBank("mine/", create=True)
    assert MotionBank("starter").copy_to("orbit", mine)
    del mine["orbit"]


def test_a_search_needs_no_index_of_its_own(elsewhere, monkeypatch):
    """Installing keeps the files' sums, by which rows are known; nothing could be written."""
    monkeypatch.setattr(rows, "_made", None)
    found = MotionBank("starter").search(words="slow pan left", limit=1)
    assert [match.name for match in found.matches] == ["pan-left-slow"]


@pytest.mark.parametrize("name", ["starter", "starter/"])
def test_a_folder_of_that_name_is_meant_instead(elsewhere, name):
    entry = MotionBank("starter")["orbit"]
    own = MotionBank(elsewhere / "starter", create=True)
    own["turn"] = entry
    assert list(MotionBank(name)) == ["turn"]


@pytest.mark.parametrize("path", ["./starter", "banks/starter", "../tiny-rope", "tiny-rope", ""])
def test_nothing_else_is_taken_for_it(elsewhere, path):
    with pytest.raises(BankError, match="is not a motion bank"):
        MotionBank(path)
