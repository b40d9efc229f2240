"""How far a library is: nothing is counted twice or forgotten, speed needs no clocks, and `ditflow
bank status` says it without torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.queue import inflight as records
from ditflow.bank import MotionBank
from ditflow.bank.leases import Leases
from tests.datamodules.queue.test_inflight import state_after
from tests.ditflow.bank.entries import make_entry
from trainers.commands.bank.command import main
from trainers.commands.bank.status import looks_at
from trainers.progress.progress import Flight, Progress, Watcher
from trainers.progress.view import ROWS, duration, words

ROOT = Path(__file__).resolve().parents[3]
ASKED = ("done", "fast", "slow", "broken", "later")


@pytest.fixture
def bank(tmp_path) -> MotionBank:
    """Asked for five clips: one done, two in flight on two ranks at steps 1 and 3 of 4 after a
    minute, one failed, one not begun.
    """
    bank = MotionBank(tmp_path / "bank", create=True)
    bank.requests.note(ASKED)
    bank["done"] = make_entry()
    fly(bank, "fast", step=3)
    fly(bank, "slow", step=1)
    bank.mark_failed("broken", "it is no clip")
    return bank


def fly(bank: MotionBank, *names: str, step: int, seconds: float = 60.0) -> None:
    records.save(bank, names, "settings", state_after(step, 1), seconds, steps=4, guided=True)


@pytest.fixture
def ranks(bank) -> list[Leases]:
    ranks = [Leases(bank, f"host.rank{rank}.1") for rank in range(2)]
    assert ranks[0].acquire("fast") and ranks[1].acquire("slow")
    return ranks


def test_every_clip_is_counted_once(bank, ranks):
    progress = Watcher(bank).look()
    assert (progress.asked, progress.done, set(progress.failed), progress.left) == (
        {*ASKED},
        {"done"},
        {"broken"},
        {"fast", "slow", "later"},
    )
    assert {
        flight.record.names: (flight.record.step, flight.holder) for flight in progress.flights
    } == {
        ("fast",): (3, "host.rank0.1"),
        ("slow",): (1, "host.rank1.1"),
    }


def test_speed_is_what_the_batches_say(bank, ranks):
    """3/4 and 1/4 of a clip in a minute each: a clip a minute together; 2 clips of work are left,
    but the slow one needs three minutes more.
    """
    progress = Watcher(bank).look()
    assert progress.clips_per_hour == pytest.approx(60)
    assert progress.work_left == pytest.approx(2)
    assert progress.seconds_left == pytest.approx(180)


def test_a_rank_that_has_said_nothing_yet_counts_as_the_others(bank, ranks):
    third = Leases(bank, "host.rank2.1")
    assert third.acquire("later")
    assert Watcher(bank).look().clips_per_hour == pytest.approx(90)


def test_nobody_at_work_is_no_estimate(bank):
    progress = Watcher(bank).look()
    assert (progress.clips_per_hour, progress.seconds_left, progress.holders) == (
        0.0,
        None,
        frozenset(),
    )
    assert words(progress) == "1 of 5 clips done, 1 failed, 3 left"


def test_a_holder_that_is_gone_is_not_at_work(bank, tmp_path):
    code = (
        "import os; from ditflow.bank.leases import Leases; "
        f"leases = Leases({bank.path!r}, 'killed'); leases.acquire('fast'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    progress = Watcher(bank).look()
    assert Leases(bank, "me").holders() == {"fast": "killed"} and progress.holders == frozenset()
    assert {flight.holder for flight in progress.flights} == {""}


def test_a_failed_clip_that_is_tried_again_is_in_flight(bank):
    fly(bank, "broken", step=2)
    again = Leases(bank, "again")
    assert again.acquire("broken")
    progress = Watcher(bank).look()
    assert "broken" in progress.left and not progress.failed


def test_a_batch_counts_for_its_clips_that_are_not_done(bank):
    fly(bank, "done", "later", step=2)
    progress = Watcher(bank, ["done", "later"]).look()
    assert (len(progress.flights), progress.work_left) == (1, pytest.approx(0.5))


def test_only_the_clips_asked_about_count(bank, ranks):
    progress = Watcher(bank, ["done", "slow"]).look()
    assert (len(progress.asked), len(progress.done), progress.failed, len(progress.flights)) == (
        2,
        1,
        {},
        1,
    )


def test_what_is_done_may_be_more_or_less_than_the_entries(bank, ranks):
    progress = Watcher(bank, ASKED, lambda: ["fast", "later", "unasked"]).look()
    assert (progress.done, progress.left) == ({"fast", "later"}, {"done", "slow"})
    assert [flight.record.names for flight in progress.flights] == [("slow",)]


def test_lists_are_noted_once_and_forgotten_when_they_are_done(bank, tmp_path):
    bank.requests.note(reversed(ASKED))
    bank.requests.note(["done"])
    assert len(list((tmp_path / "bank" / "asked").iterdir())) == 2
    bank.requests.settle({"done"})
    assert bank.requests.names() == {*ASKED}
    bank.requests.settle({*ASKED, "more"})
    assert bank.requests.names() == set()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"clips": "abc"}',
        '{"clips": ["../../etc"]}',
        '{"clips": [1]}',
        '{"other": []}',
        "\udc80",
    ],
)
def test_a_list_that_cannot_be_read_asks_for_nothing(bank, tmp_path, text):
    for file in (tmp_path / "bank" / "asked").iterdir():
        file.write_bytes(text.encode(errors="surrogateescape"))
    assert bank.requests.names() == set()
    assert Watcher(bank).look().asked == {"done", "fast", "slow", "broken"}, (
        "what the bank knows of counts nevertheless"
    )


def test_watching_ends_when_nothing_is_left(bank):
    looks = looks_at(Watcher(bank), 0.01)
    assert len(next(looks).left) == 3
    for name in ("fast", "slow"):
        bank.put(name, make_entry())
    assert len(next(looks).left) == 1
    bank.mark_failed("later", "it is too short")
    assert len(next(looks).left) == 0
    assert next(looks, None) is None


def test_status_for_people(bank, ranks, capsys):
    bank.mark_failed("broken", "it is \x1b[31mred")
    assert main(["status", bank.path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0]
        == "1 of 5 clips done, 1 failed, 2 in flight, 1 left, 60 clips an hour, 3 min to go"
    )
    assert [line.split()[:2] for line in lines[2:4]] == [["fast", "3/4"], ["slow", "1/4"]]
    assert "host.rank0.1" in lines[2] and "host.rank1.1" in lines[3]
    assert lines[4] == r"failed 2 times: broken: it is \x1b[31mred"


def test_status_for_programs(bank, ranks, capsys):
    assert main(["status", bank.path, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["asked"], told["done"], told["left"], told["seconds_left"]) == (
        5,
        1,
        3,
        pytest.approx(180),
    )
    assert told["failed"] == {"broken": {"reason": "it is no clip", "attempts": 1}}
    flights = [(flight["clips"], flight["step"], flight["holder"]) for flight in told["in_flight"]]
    assert flights == [(["fast"], 3, "host.rank0.1"), (["slow"], 1, "host.rank1.1")]


def test_status_needs_no_torch_and_says_where_there_is_no_bank(bank, tmp_path):
    loaded = "'torch' in sys.modules, 'lightning' in sys.modules"
    code = f"import sys; from trainers.cli import main; print(main(sys.argv[1:]), {loaded})"
    status = [sys.executable, "-c", code, "bank", "status"]
    there = subprocess.run([*status, bank.path], cwd=ROOT, capture_output=True, text=True)
    nowhere = subprocess.run([*status, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert (
        there.stdout.splitlines()[-1] == "0 False False"
        and nowhere.stdout.splitlines()[-1] == "2 False False"
    )
    assert "is not a motion bank" in nowhere.stderr


@pytest.mark.parametrize("pause", ["0", "-1", "nan", "soon"])
def test_a_pause_that_is_none_is_refused(bank, pause):
    with pytest.raises(SystemExit) as stop:
        main(["status", bank.path, "--watch", pause])
    assert stop.value.code == 2


def test_a_large_library_is_shown_in_part(bank, capsys):
    for number in range(ROWS + 5):
        bank.mark_failed(f"clip{number:03d}", "it is no clip")
    assert main(["status", bank.path]) == 0
    shown = capsys.readouterr().out
    assert shown.count("failed once") == ROWS and "… and 6 more" in shown


def test_a_slow_batch_alone_sets_the_end():
    record = records.InflightBatch("key", ("slow",), "settings", 1, 10, 60.0, ())
    progress = Progress(
        frozenset({"slow"}), frozenset(), {}, (Flight(record, "rank"),), frozenset({"rank"})
    )
    assert progress.seconds_left == pytest.approx(540)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than a second"),
        (40, "40 s"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
        (None, "an unknown time"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
