from __future__ import annotations

import math
from typing import Any

import pytest

from ditflow.core.noise import CLEAN, NoiseLevel
from ditflow.core.schedule import DenoisingSchedule, GuidanceWindow, Step, check_window

PUBLISHED = tuple(range(999, 0, -20))
# methods sheet: g = 7, 50 trailing steps
DYNAMIC = [2.51, 2.80, 7.97, 7.32, 3.09, 4.82, 1.04, 4.70, 1.72, 7.98, 1.01, 3.18]


LEVELS = tuple(NoiseLevel(1 - share, share) for share in (0.9, 0.6, 0.3))


def of(timesteps: tuple[float, ...], *rest: Any) -> DenoisingSchedule:
    return DenoisingSchedule(timesteps, (CLEAN,) * len(timesteps), *rest)


def test_each_step_goes_from_its_level_to_the_next() -> None:
    schedule = DenoisingSchedule((999.5, 666, 333), LEVELS, 3.0)
    assert list(schedule) == [
        Step(0, 999.5, LEVELS[0], LEVELS[1], 3, 3.0),
        Step(1, 666, LEVELS[1], LEVELS[2], 3, 3.0),
        Step(2, 333, LEVELS[2], CLEAN, 3, 3.0),
    ]
    assert len(schedule) == 3


@pytest.mark.parametrize(
    ("sigma", "index"),
    [(1.0, 0), (0.9, 0), (0.76, 0), (0.74, 1), (0.6, 1), (0.44, 2), (0.0, 2)],
)
def test_the_step_of_the_nearest_noise_whatever_its_timestep(sigma: float, index: int) -> None:
    schedule = DenoisingSchedule((7, 8, 9), LEVELS)
    assert schedule.nearest(NoiseLevel(1 - sigma, sigma)) == index


def test_of_two_steps_as_near_the_noisier_one() -> None:
    levels = NoiseLevel(0.25, 0.75), NoiseLevel(0.75, 0.25)
    assert DenoisingSchedule((2, 1), levels).nearest(NoiseLevel(0.5, 0.5)) == 0


def test_noise_is_compared_across_kinds_of_processes() -> None:
    preserving = NoiseLevel(0.6, 0.8)  # as much noise for its signal as 4/7 of a flow
    flow = tuple(NoiseLevel(1 - sigma, sigma) for sigma in (0.8, 4 / 7, 0.6))
    assert DenoisingSchedule((3, 2, 1), flow).nearest(preserving) == 1


def test_published_dynamic_guidance() -> None:
    scales = [step.guidance_scale for step in of(PUBLISHED, 7.0, "dynamic_timestep")]
    assert [round(scale, 2) for scale in scales[:12]] == DYNAMIC


def test_index_guidance_rises() -> None:
    scales = [step.guidance_scale for step in of(PUBLISHED, 7.0, "dynamic_index")]
    assert (
        scales == sorted(scales)
        and scales[0] == 1
        and scales[25] < 1.1
        and round(scales[-1], 1) == 7.8
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((),), "at least one"),
        (((1,), 7.0, "dynamic"), "one of constant, dynamic_timestep, dynamic_index"),
    ],
)
def test_impossible_schedules_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of(*arguments)


def test_there_is_no_step_past_the_end() -> None:
    with pytest.raises(IndexError, match="steps 0 to 1"):
        of((999, 499))[2]


def test_guided_timesteps_and_learning_rates_as_published() -> None:
    schedule, window = of(PUBLISHED), GuidanceWindow.of(0.2, of(PUBLISHED))
    guided = [step for step in schedule if window.covers(step)]
    assert [step.timestep for step in guided] == list(range(999, 818, -20))
    rates = [window.learning_rate(step, (0.002, 0.001)) for step in guided]
    assert rates == pytest.approx(
        [0.0020, 0.0019, 0.0018, 0.0017, 0.0016, 0.0015, 0.0014, 0.0013, 0.0012, 0.0011]
    )


def test_a_window_may_start_later() -> None:
    schedule, window = of(PUBLISHED), GuidanceWindow.of((10, 20), of(PUBLISHED))
    assert len(window) == 10 and not window.covers(schedule[9]) and not window.covers(schedule[20])
    assert window.learning_rate(schedule[10], (0.002, 0.001)) == 0.002


@pytest.mark.parametrize("window", [1.5, -0.1, (3, 2), (0, 51), (-1, 5)])
def test_windows_outside_the_schedule_are_refused(window: float | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="does not fit (50 steps|any schedule)"):
        GuidanceWindow.of(window, of(PUBLISHED))


def test_a_window_may_be_all_or_nothing() -> None:
    whole, none = (GuidanceWindow.of(share, of(PUBLISHED)) for share in (1.0, 0))
    assert (len(whole), len(none)) == (50, 0)


def flow(steps: int, shift: float = 3.0) -> DenoisingSchedule:
    """Noise levels of a flow, evenly spaced and then shifted, as Wan's are."""
    even = [1 - index / steps for index in range(steps)]
    sigmas = [shift * sigma / (1 + (shift - 1) * sigma) for sigma in even]
    levels = tuple(NoiseLevel(1 - sigma, sigma) for sigma in sigmas)
    return DenoisingSchedule(tuple(1000 * sigma for sigma in sigmas), levels)


def end(window: str, schedule: DenoisingSchedule) -> float:
    """The noise that the window's last step leaves."""
    stop = GuidanceWindow.of(window, schedule).stop
    return (*schedule.levels, CLEAN)[stop].sigma


@pytest.mark.parametrize("steps", [4, 8, 50])
@pytest.mark.parametrize("noise", [0.97, 0.9, 0.75, 0.5, 0.1])
def test_a_window_by_noise_ends_at_the_nearest_level_of_any_schedule(
    steps: int, noise: float
) -> None:
    schedule = flow(steps)
    levels = [level.sigma for level in (*schedule.levels, CLEAN)]
    nearest = min(levels, key=lambda sigma: abs(sigma - noise))
    assert end(f"noise:{noise}", schedule) == pytest.approx(nearest, abs=1e-12)


def test_a_window_by_noise_is_the_same_noise_where_schedules_share_its_level() -> None:
    """A quarter of the way is a level of 4, 8 and 48 steps: 3 * .75 / (1 + 2 * .75) = 0.9."""
    ends = [end("noise:0.9", flow(steps)) for steps in (4, 8, 48)]
    assert ends == pytest.approx([0.9] * 3, abs=1e-12)
    stops = [GuidanceWindow.of("noise:0.9", flow(steps)).stop for steps in (4, 8, 48)]
    assert stops == [1, 2, 12]


def test_noise_counts_by_its_ratio_to_the_signal_whatever_the_family() -> None:
    """A level that preserves variance, and that of a flow with as much noise for its signal."""
    for sigma in (0.2, 0.5, 0.9):
        norm = math.hypot(1 - sigma, sigma)
        assert NoiseLevel((1 - sigma) / norm, sigma / norm).sigma == pytest.approx(sigma)
        assert NoiseLevel(1 - sigma, sigma).sigma == pytest.approx(sigma)
    assert (CLEAN.sigma, NoiseLevel(0.0, 1.0).sigma) == (0, 1)


@pytest.mark.parametrize("window", ["noise:1.5", "noise:-0.1", "noise:", "0.9", "steps:3"])
def test_a_window_by_noise_that_is_none(window: str) -> None:
    with pytest.raises(ValueError, match="does not fit any|is none: give .*such as noise:0.9"):
        check_window(window)
