"""Several processes at one bank: however many there are, whoever dies and whenever, the bank is the same bit by bit, and exit codes tell the truth."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from ditflow.bank import MotionBank
from tests.clips import arguments, hashes, write_clips
from tests.ranks import Ranks

NAMES = ("one", "two", "three", "four", "five")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"), NAMES)


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory):
    """A bank made by one process without interruption, and how long that took."""
    folder = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    assert Ranks(arguments("fit", folder / "bank", manifest=clips), 1, folder / "log").wait() == [0]
    return folder / "bank", time.monotonic() - began


def check_complete(folder: Path, whole: Path, log: Path) -> None:
    bank = MotionBank(folder)
    assert hashes(folder) == hashes(whole), log.read_text()
    assert (bank.inflight(), bank.failures(), bank.verify()) == ([], {}, [])
    assert not (folder / "leases").exists(), "the last one to leave gives all back"


@pytest.mark.parametrize(("world_size", "batch_size"), [(2, 1), (3, 2)])
def test_ranks_share_a_bank(clips, whole, tmp_path, world_size, batch_size):
    """Uneven shares; the same bank whatever the number of ranks and the batches."""
    ranks = Ranks(arguments("fit", tmp_path / "bank", manifest=clips, batch_size=batch_size), world_size, tmp_path / "log")
    assert ranks.wait() == [0] * world_size, ranks.log.read_text()
    check_complete(tmp_path / "bank", whole[0], ranks.log)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_killed_at_random_moments_a_bank_is_finished_bit_by_bit(clips, whole, tmp_path, seed):
    """kill -9 at four moments: of all ranks or of some, whose work the others then do; each time with another number of ranks and another batch size."""
    dice, log = random.Random(seed), tmp_path / "log"
    for moment in range(4):
        world_size, batch_size = dice.choice((1, 2, 3)), dice.choice((1, 2))
        ranks = Ranks(arguments("fit", tmp_path / "bank", manifest=clips, batch_size=batch_size), world_size, log)
        victims = dice.sample(range(world_size), dice.randint(1, world_size))
        deadline = time.monotonic() + dice.uniform(0.1, 1.0) * whole[1]
        while time.monotonic() < deadline and not ranks.poll():
            time.sleep(0.005)
        ranks.kill(victims)
        if len(victims) == world_size or 0 in victims:
            ranks.kill(range(world_size), signal.SIGKILL if dice.random() < 0.5 else signal.SIGTERM)
        codes = ranks.wait()
        assert all(code in (0, -signal.SIGKILL, -signal.SIGTERM, 143, 1, 2) for code in codes), (moment, codes, log.read_text())
        assert MotionBank(tmp_path / "bank", create=True).verify() == []
    assert Ranks(arguments("fit", tmp_path / "bank", manifest=clips), 1, log).wait() == [0], log.read_text()
    check_complete(tmp_path / "bank", whole[0], log)
