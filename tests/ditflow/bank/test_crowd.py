"""Eight processes at one bank: no entry is lost, no read is torn, and of those that want one name
one gets it.
"""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path

import pytest

from ditflow.bank import BankError, MotionBank
from tests.ditflow.bank.entries import make_entry

PROCESSES, EACH, SHARED = 8, 125, 20
FORK = multiprocessing.get_context("fork")
TOGETHER = FORK.Barrier(PROCESSES, timeout=600)


def work(place: tuple[str, int]) -> list[int]:
    """One process: it writes its entries and meanwhile reads, lists, verifies and indexes
    everybody's. Returns which of the shared names it won.
    """
    path, me = place
    bank, choose, mine = MotionBank(path, create=True), random.Random(me), set()
    own, hot = make_entry(me), {make_entry(seed).content_hash for seed in range(PROCESSES)}
    for number in range(EACH):
        bank[f"{me}-{number:03d}"] = own
        mine.add(f"{me}-{number:03d}")
        bank.put("hot", own, overwrite=True)
        assert bank["hot"].content_hash in hot
        if number % 10 == me:
            there = list(bank)
            assert mine <= set(there)
            for name in choose.sample(there, min(len(there), 5)):
                assert (
                    name == "hot"
                    or name.startswith("shared")
                    or bank[name].metadata.seed == int(name[0])
                )
        if number % 50 == 6 * me:
            assert bank.verify() == [] and bank.reindex() >= len(mine)
            assert mine <= {row.name for row in bank.index() if not row.problem}
    return [number for number in range(SHARED) if won(bank, f"shared-{number}", own)]


def won(bank: MotionBank, name: str, entry) -> bool:
    """Publish when all others do."""
    TOGETHER.wait()
    try:
        bank[name] = entry
    except BankError as error:
        assert "already holds an entry" in str(error)
        return False
    return True


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    path = tmp_path_factory.mktemp("crowd")
    with FORK.Pool(PROCESSES) as pool:
        return path, pool.map(work, [(str(path), me) for me in range(PROCESSES)], chunksize=1)


def test_no_entry_is_lost_and_all_are_sound(outcome):
    bank = MotionBank(outcome[0])
    wanted = {f"{me}-{number:03d}" for me in range(PROCESSES) for number in range(EACH)}
    assert (
        set(bank) == wanted | {"hot"} | {f"shared-{number}" for number in range(SHARED)}
        and len(wanted) == 1000
    )
    assert bank.verify() == []
    contents = [make_entry(me).content_hash for me in range(PROCESSES)]
    assert all(bank.content_hash(name) == contents[int(name[0])] for name in wanted)


def test_each_shared_name_has_one_winner(outcome):
    path, winners = outcome
    for number in range(SHARED):
        (winner,) = [me for me, names in enumerate(winners) if number in names]
        assert MotionBank(path).metadata(f"shared-{number}").seed == winner


def test_nothing_half_written_is_left(outcome):
    assert [
        file
        for file in Path(outcome[0]).rglob("*")
        if file.is_file() and file.suffix not in (".safetensors", ".jsonl")
    ] == []


def test_an_index_of_any_moment_tells_the_truth(outcome):
    bank = MotionBank(outcome[0])
    assert {row.name: row.prompt for row in bank.index()} == {
        name: bank.metadata(name).prompt for name in bank
    }
