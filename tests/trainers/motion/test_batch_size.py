"""`--data.batch_size auto`: nearly the fastest batches, said in one line, and the same results."""

from __future__ import annotations

import math

import pytest

from ditflow.bank import MotionBank
from tests.clips import arguments, hashes
from tests.registry import SIZE, tiny_backbone
from trainers.motion import batch_size
from trainers.motion.batch_size import fastest, measured, rates_of, told
from trainers.motion.dry_run import costs

PLENTY = 1 << 12


def chosen(seconds, most=PLENTY, fits=lambda count: True):
    return fastest(rates_of(seconds, most, fits))


@pytest.mark.parametrize("fixed", [0.0, 0.01, 0.3, 1.0, 4.0, 50.0])
def test_it_is_within_five_percent_of_the_best(fixed):
    """A step has a cost of its own and one for each clip: more at once is never slower. Where a
    batch twice as large gains less than 2 %, the fixed cost is below 2 % of it, and all that more
    clips could save.
    """

    def seconds(count):
        return fixed + count

    size = chosen(seconds)
    assert size / seconds(size) >= 0.95 * PLENTY / seconds(PLENTY)


@pytest.mark.parametrize("crowded", [1, 3, 8, 40])
def test_where_larger_batches_get_slower_it_stays_below(crowded):
    """Beyond so many clips caches are too small, and each further clip costs three times as much;
    the best of all sizes is within 5 % of the best power of two here.
    """

    def seconds(count):
        return 1.0 + count + 2 * max(0, count - crowded)

    rates = {2**power: 2**power / seconds(2**power) for power in range(12)}
    assert rates[chosen(seconds)] >= 0.95 * max(rates.values())


def test_of_sizes_that_are_as_fast_the_smallest_is_taken():
    asked = []
    assert chosen(lambda count: asked.append(count) or float(count)) == 1 and asked == [1, 2]


def test_where_one_clip_is_too_much_it_stays_at_one():
    rates = rates_of(lambda count: math.inf, PLENTY, lambda count: True)
    assert fastest(rates) == 1 and set(rates) == {1} and "short" in told(rates)


def test_it_keeps_to_the_memory_that_may_be_taken():
    model = tiny_backbone("rotary")
    one, two = (costs.memory(model, SIZE, count, None) for count in (1, 2))
    assert one < two
    assert set(measured(model, SIZE, 4, budget=(one + two) / 2)) == {1}
    assert 2 in measured(model, SIZE, 4, budget=two)


def test_it_keeps_to_what_there_is_to_do_and_to_what_fits():
    def seconds(count):
        return 1.0

    assert [chosen(seconds, most) for most in (1, 2, 3, 6, 8)] == [1, 2, 3, 6, 8]
    assert chosen(seconds, fits=lambda count: count <= 5) == 4
    assert chosen(lambda count: 1.0 if count < 16 else math.inf) == 8, "memory ran out at 16"


def auto(bank, clips):
    return arguments("fit", bank, manifest=clips, batch_size="auto")


def test_fit_measures_its_own_steps(run, clips, whole, tmp_path):
    code, said, _ = run(*auto(tmp_path / "bank", clips))
    (line,) = [line for line in said.splitlines() if line.startswith("Batches of")]
    assert code == 0 and ": clips a second, against one at a time, are 1.00 of 1, " in line
    assert hashes(tmp_path / "bank") == hashes(whole)


class Killed(BaseException):
    """What no handler catches, as a kill -9."""


def test_a_batch_in_flight_goes_on_with_its_own_clips(run, clips, whole, tmp_path, monkeypatch):
    """Begun where two at once were fastest, it is ended where one is."""
    measured = [{1: 1.0, 2: 1.5}, {1: 1.0, 2: 0.9}]
    monkeypatch.setattr(batch_size, "measured", lambda *_: measured.pop(0))

    def killed(*_):
        raise Killed

    with monkeypatch.context() as undone, pytest.raises(Killed):
        undone.setattr(MotionBank, "put", killed)
        run(*auto(tmp_path / "bank", clips))
    bank = MotionBank(tmp_path / "bank")
    (state,) = [key for key in bank.inflight() if "guided" not in key]
    assert len(bank.inflight_metadata(state)["names"]) == 2
    assert run(*auto(tmp_path / "bank", clips))[0] == 0 and not measured
    assert hashes(tmp_path / "bank") == hashes(whole)


@pytest.mark.parametrize("word", ["0", "-1", "many"])
def test_another_word_is_refused(run, clips, tmp_path, word):
    words = arguments("fit", tmp_path / "bank", manifest=clips, batch_size=word)
    code, _, err = run(*words)
    assert code == 2 and "batch_size" in err and "Traceback" not in err
