"""Leases: one of many takes a key, the living keep it, the dead lose it, and no clock of another
machine is believed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from ditflow.bank import BankError, MotionBank
from ditflow.bank.leases import EXPIRY, Leases
from ditflow.liveness import is_gone, lock_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["local", "memory"])
def bank(request, tmp_path):
    return MotionBank(
        str(tmp_path / "bank") if request.param == "local" else f"memory://{tmp_path.name}/leased",
        create=True,
    )


@pytest.fixture
def local(tmp_path):
    return MotionBank(tmp_path / "bank", create=True)


@pytest.fixture
def elsewhere(monkeypatch):
    """Processes of which nothing can be known, as on another machine."""
    monkeypatch.setattr("ditflow.bank.leases.is_gone", lambda name: False)


def test_one_holds_until_it_gives_back(bank):
    mine, yours = Leases(bank, "me"), Leases(bank, "you")
    assert mine.acquire("clip.1") and mine.acquire("clip.1") and not yours.acquire("clip.1")
    assert yours.acquire("clip") and yours.holders() == {"clip": "you", "clip.1": "me"}
    yours.release("clip.1")
    assert not yours.acquire("clip.1"), "nobody gives back what another holds"
    mine.release("clip.1")
    assert yours.acquire("clip.1") and not mine.acquire("clip.1")
    yours.release("clip.1")
    yours.release("clip")
    assert mine.holders() == {}


def test_a_heart_that_beats_keeps_its_lease_and_one_that_stops_loses_it(bank, elsewhere):
    clock = Clock()
    mine, yours = Leases(bank, "me"), Leases(bank, "you", clock=clock)
    assert mine.acquire("clip")
    for _ in range(5):
        assert not yours.acquire("clip")
        clock.now += EXPIRY - 1
        mine.renew()
    assert not yours.acquire("clip")
    clock.now += EXPIRY - 1
    assert not yours.acquire("clip")
    clock.now += 1
    assert yours.acquire("clip") and yours.holders() == {"clip": "you"}
    mine.renew()
    assert not mine.acquire("clip"), "who stood still sees that it was taken over"
    yours.release("clip")
    assert mine.acquire("clip") and mine.holders() == {"clip": "me"}


@pytest.mark.parametrize("skew", [-1e9, 0, 1e9])
def test_clocks_of_other_machines_do_not_matter(local, tmp_path, elsewhere, skew):
    clock = Clock()
    mine, yours = Leases(local, "me"), Leases(local, "you", clock=clock)
    assert mine.acquire("clip")
    clock.now = skew
    (file,) = (tmp_path / "bank" / "leases").iterdir()
    os.utime(file, (time.time() + skew,) * 2)
    assert not yours.acquire("clip")
    clock.now += EXPIRY
    assert yours.acquire("clip")


def test_of_many_that_see_a_dead_lease_one_takes_it(local, elsewhere):
    clock = Clock()
    Leases(local, "dead").acquire("clip")
    heirs = [Leases(local, str(index), clock=clock) for index in range(5)]
    assert not any(heir.acquire("clip") for heir in heirs)
    clock.now = EXPIRY
    assert [heir.acquire("clip") for heir in heirs].count(True) == 1


def _race(path, barrier, won):
    leases = Leases(path, f"process {os.getpid()}")
    barrier.wait()
    for key in map(str, range(50)):
        if leases.acquire(key):
            won.put(key)
    barrier.wait()


def test_a_race_has_one_winner_for_each_key(local):
    context = multiprocessing.get_context("fork")
    barrier, won = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_race, args=(local.path, barrier, won)) for _ in range(4)]
    for process in processes:
        process.start()
    keys = [won.get(timeout=60) for _ in range(50)]
    for process in processes:
        process.join()
    assert sorted(keys) == sorted(map(str, range(50))) and won.empty()


def test_a_killed_process_of_this_machine_is_dead_at_once(local):
    ready = (
        "import sys; from ditflow.bank.leases import Leases; leases = Leases(sys.argv[1], 'killed')"
        "; print(leases.acquire('clip'), flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", ready, local.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "True\n"
    leases = Leases(local, "heir")
    assert not leases.acquire("clip")
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert leases.acquire("clip"), "also while it waits for its parent"
    process.communicate()
    assert leases.holders() == {"clip": "heir"}


def test_who_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    name = "0123456789abcdef" * 2
    assert not is_gone(name), "nothing is known of a lock that is not here"
    with lock_of(name):
        assert not is_gone(name)
    assert is_gone(name) and is_gone(name)
    (tmp_path / "ditflow-..lock").touch()
    for strange in ("", "..", "../" + name, name + "0", "x" * 32, "boot/space/1/2"):
        assert not is_gone(strange)


def test_a_holder_that_ends_leaves_no_lock_behind(local, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    leases = Leases(local, "me")
    with leases.beating():
        assert leases.acquire("clip") and len(list(tmp_path.glob("*.lock"))) == 1
    assert not list(tmp_path.glob("*.lock")) and leases.acquire("clip")


def test_without_a_folder_for_locks_the_heartbeat_tells(local, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing" / "file"))
    (tmp_path / "missing").touch()
    mine, yours = Leases(local, "me"), Leases(local, "you")
    assert mine.acquire("clip") and not yours.acquire("clip") and yours.dead() == set()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"holder":1,"process":"","beats":0}', b"\xff", b'{"beats":' + b"9" * 9999],
)
def test_a_lease_that_cannot_be_read_is_one_and_dies_in_time(local, tmp_path, content):
    clock = Clock()
    (tmp_path / "bank" / "leases").mkdir(parents=True)
    (tmp_path / "bank" / "leases" / "clip.7").write_bytes(content)
    leases = Leases(local, "me", clock=clock)
    assert not leases.acquire("clip") and leases.holders() == {"clip": "unknown"}
    clock.now = EXPIRY
    assert leases.acquire("clip")
    leases.release("clip")
    assert leases.holders() == {} and not list((tmp_path / "bank" / "leases").iterdir())


def test_strange_files_are_no_leases(local, tmp_path):
    leases = Leases(local, "me")
    assert leases.acquire("clip")
    for name in ("clip", "clip.x", ".clip.1", "clip.-1", "clip." + "9" * 40, "\u00b2.\u00b2"):
        (tmp_path / "bank" / "leases" / name).touch()
    assert leases.holders() == {"clip": "me"}


@pytest.mark.parametrize("key", ["", "../up", "a/b", ".hidden", "x" * 129, "a b"])
def test_what_cannot_be_a_key(local, key):
    with pytest.raises(BankError, match="cannot be leased"):
        Leases(local, "me").acquire(key)


def test_the_thread_beats_and_ends(local, tmp_path):
    leases = Leases(local, "me")
    assert leases.acquire("clip")
    (file,) = (tmp_path / "bank" / "leases").iterdir()
    with leases.beating(every=0.01):
        deadline = time.monotonic() + 30
        while json.loads(file.read_text())["beats"] < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert json.loads(file.read_text())["beats"] >= 3
    time.sleep(0.1)
    assert (
        not file.exists() and not leases.holders()
    )  # all was given back, and no late beat makes it anew
