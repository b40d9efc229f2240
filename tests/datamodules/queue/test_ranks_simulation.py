"""Ranks that share a library under simulated time: nothing is lost or done twice, whoever is slow,
fails, leaves or joins, and little time is wasted.
"""

from __future__ import annotations

import pytest

from ditflow.bank.leases import EXPIRY
from tests.benchmarks.ranks_simulation import STEPS, Library, Rank, ideal, scenarios, simulate
from tests.benchmarks.simulated_time import Clock

SCENARIOS = scenarios(ranks=6, clips=36)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_library_is_done_once_and_soon(name):
    """No rank is idle while there is work: then the end is at most the longest clip on the slowest
    rank behind the ideal, and the wait for a dead lease.
    """
    library, ranks = SCENARIOS[name]
    result = simulate(library, ranks)
    longest = max(library.costs.values()) * max(rank.slowness for rank in ranks)
    assert 3600 * result["hours"] <= 3600 * result["ideal_hours"] + longest + 2 * EXPIRY
    assert (
        result["efficiency"] >= (0.99 if name.startswith("even") else 0.4)
        and result["used_share"] >= 0.7
    )
    assert result["repeated_share"] == 0, "no step that has its record is done again"


def test_a_slow_rank_costs_the_others_nothing():
    """One rank of four is 30 times slower: of its share the others take all but the clip that it is
    at.
    """
    library = Library({f"clip{number}": 300.0 for number in range(24)})
    ranks = [
        Rank(f"rank{index}", index, 4, slowness=30.0 if index == 3 else 1.0) for index in range(4)
    ]
    assert simulate(library, ranks)["hours"] == pytest.approx(30 * 300 / 3600, rel=0.01)


def test_a_killed_rank_is_taken_over_after_a_minute_and_not_before():
    """Two ranks with one clip; its holder is killed in the sixth step. The other waits out the
    lease and does the second half.
    """
    library = Library({"clip": 1000.0})
    ranks = [Rank("stays", 0, 2, joins=10.0), Rank("killed", 1, 2, leaves=550.0, by_kill=True)]
    result = simulate(library, ranks)
    assert 550 + 60 + 500 - 10 <= 3600 * result["hours"] <= 550 + 60 + 500 + 25
    assert set(library.steps.values()) == {1} and len(library.steps) == STEPS


def test_sleepers_wake_in_order():
    clock, woken = Clock(), []
    for moment in (3.0, 1.0, 2.0):
        clock.start(
            moment,
            lambda moment=moment: (clock.sleep(10 * moment), woken.append((clock.now, moment))),
        )
    clock.run()
    assert woken == [(11.0, 1.0), (22.0, 2.0), (33.0, 3.0)]


def test_what_an_actor_raises_is_raised():
    clock = Clock()
    clock.start(1.0, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clock.run()


def test_the_ideal_counts_speed_while_it_is_there():
    """100 s of work: 10 s of two, then one of them leaves and a half-speed one joins at 20 s."""
    ranks = [Rank("a"), Rank("b", leaves=10.0), Rank("c", slowness=2.0, joins=20.0)]
    assert ideal(Library({"clip": 100.0}), ranks) == pytest.approx(20 + (100 - 30) / 1.5)
    with pytest.raises(ValueError, match="leave before"):
        ideal(Library({"clip": 100.0}), [Rank("b", leaves=10.0)])
