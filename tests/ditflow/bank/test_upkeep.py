"""What is garbage, and what never is: anything young, anything held, anything that a run may still
go on with.
"""

from __future__ import annotations

import os
import time

import pytest
import torch

from ditflow.bank import BankError, MotionBank
from ditflow.bank.leases import Leases
from ditflow.bank.upkeep import find_garbage, remove_garbage
from tests.ditflow.bank.entries import make_entry

DAY = 86400


@pytest.fixture
def bank(tmp_path):
    """A bank with one of everything: what is in use, and what a crash can leave."""
    bank = MotionBank(tmp_path, create=True)
    bank["kite"], bank["boat"] = make_entry(1), make_entry(2)
    for key, names in {"open-1": ["car"], "done-1": ["kite", "boat"], "held-1": ["tree"]}.items():
        bank.save_inflight(f"{key}.guided0000", {"parameter": torch.zeros(3)}, {})
        bank.save_inflight(key, {"latents": torch.zeros(3)}, {"names": names, "step": 1})
    bank.save_inflight("lost-1.guided0000", {"parameter": torch.zeros(3)}, {})
    bank.save_inflight("damaged-1", {"latents": torch.zeros(50)}, {"names": ["car"]})
    file = tmp_path / "inflight" / "damaged-1.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    bank.mark_failed("car", "no")
    bank.mark_failed("kite", "no, and its entry came all the same")
    assert Leases(bank, "one").acquire("tree") and Leases(bank, "two").acquire("sun")
    assert Leases(str(tmp_path / "videos"), "three").acquire("kite.red-clouds") and Leases(
        str(tmp_path / "videos"), "three"
    ).acquire("kite.blue-clouds")
    for folder in ("entries", "videos", "inflight"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / ".0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("a person's")
    (tmp_path / "entries" / ".hidden").write_text("a person's")
    return bank


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def age(folder, *, but=()):
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in but:
            os.utime(path, (time.time() - 2 * DAY,) * 2)


HELD = {"leases/tree.0", "videos/leases/kite.blue-clouds.0"}
DEAD = {"leases/sun.0", "videos/leases/kite.red-clouds.0"}
FAILED = {"failed/kite.json"}
TEMPORARY = {
    "entries/.0123456789abcdef.tmp",
    "videos/.0123456789abcdef.tmp",
    "inflight/.0123456789abcdef.tmp",
}
USELESS = {
    f"inflight/{name}.safetensors"
    for name in ("done-1", "done-1.guided0000", "lost-1.guided0000", "damaged-1")
}
OPEN = {f"inflight/{name}.safetensors" for name in ("open-1", "open-1.guided0000")}


def test_what_is_young_is_no_garbage(bank):
    assert {garbage.path for garbage in find_garbage(bank)} == FAILED


def test_what_nothing_will_use(bank, tmp_path):
    age(tmp_path, but=HELD)
    before = files(tmp_path)
    found = find_garbage(bank)
    assert {garbage.path for garbage in found} == FAILED | TEMPORARY | USELESS | DEAD
    assert files(tmp_path) == before  # looking changes nothing
    remove_garbage(bank, found)
    assert before - files(tmp_path) == FAILED | TEMPORARY | USELESS | DEAD
    assert find_garbage(bank) == [] and bank.verify() == [
        f"entries/{name} is a file that no entry can have." for name in []
    ]
    remove_garbage(bank, found)  # what is gone already is no error


def test_unfinished_batches_go_only_when_asked_for_and_never_while_held(bank, tmp_path):
    age(tmp_path, but=HELD)
    found = {garbage.path for garbage in find_garbage(bank, unfinished=True)}
    assert found == FAILED | TEMPORARY | USELESS | OPEN | DEAD


def test_a_young_state_keeps_its_old_parts(bank, tmp_path):
    age(tmp_path, but={"inflight/open-1.safetensors", "inflight/done-1.safetensors"})
    found = {garbage.path for garbage in find_garbage(bank, unfinished=True)}
    assert not found & (
        OPEN | {"inflight/done-1.safetensors", "inflight/done-1.guided0000.safetensors"}
    )


def test_parts_go_before_their_state(bank, tmp_path):
    age(tmp_path)
    order = [garbage.path for garbage in find_garbage(bank, unfinished=True)]
    assert order.index("inflight/open-1.guided0000.safetensors") < order.index(
        "inflight/open-1.safetensors"
    )


@pytest.mark.parametrize("hours", [0.0, 0.5, -1.0, float("nan")])
def test_the_last_hour_is_always_left_alone(bank, hours):
    with pytest.raises(BankError, match="nothing is garbage before an hour"):
        find_garbage(bank, hours)
