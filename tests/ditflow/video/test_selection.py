"""Choosing frames, tested as functions of numbers alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ditflow.video.selection import (
    SelectionError,
    by_stride,
    by_time,
    interval,
    is_variable,
    nearest,
)

times_of_clips = some.lists(some.integers(1, 2000), min_size=0, max_size=40).map(
    lambda steps: [sum(steps[:index]) / 1000 for index in range(len(steps) + 1)]
)
rates = some.floats(0.5, 240)


@given(times_of_clips, some.floats(-1, 100))
def test_the_nearest_is_the_nearest(times, moment):
    found = nearest(times, moment)
    assert abs(times[found] - moment) <= min(abs(time - moment) for time in times) + 2e-9


def test_of_two_as_near_the_earlier_is_taken():
    assert nearest([0.0, 0.04, 0.08, 0.12], 0.1) == 2 and nearest([0.0, 1.0], 0.5) == 0


@given(times_of_clips, rates, some.data())
def test_by_time(times, fps, data):
    """Indices never fall, each is nearest to its moment, and no moment lies behind the clip."""
    start = data.draw(some.integers(0, len(times) - 1))
    found = by_time(times, None, start, fps)
    assert found == sorted(found) and found[0] == start
    assert found == [nearest(times, times[start] + k / fps) for k in range(len(found))]
    assert times[start] + (len(found) - 1) / fps <= times[-1] + interval(times) / 2 + 1e-6
    assert times[start] + len(found) / fps >= times[-1] + interval(times) / 2 - 1e-6
    frames = data.draw(some.integers(1, len(found)))
    assert by_time(times, frames, start, fps) == found[:frames]


@given(some.integers(1, 200), some.sampled_from([8, 12.5, 24000 / 1001, 25, 30, 50, 120]))
def test_the_own_rate_takes_every_frame_once(count, fps):
    assert by_time([index / fps for index in range(count)], None, 0, fps) == list(range(count))


@given(some.integers(1, 60), some.integers(1, 6))
def test_a_part_of_a_constant_rate_is_a_stride(count, stride):
    times = [index / 24 for index in range(count)]
    assert by_time(times, None, 0, 24 / stride)[: len(range(0, count, stride))] == by_stride(
        count, None, 0, stride
    )


@given(times_of_clips, rates, some.integers(2, 60), some.data())
def test_what_is_said_to_fit_by_time_does_fit(times, fps, frames, data):
    start = data.draw(some.integers(0, len(times) - 1))
    try:
        by_time(times, frames, start, fps)
    except SelectionError as error:
        assert len(by_time(times, error.fit, start, fps)) == error.fit < frames
        with pytest.raises(SelectionError):
            by_time(times, error.fit + 1, start, fps)
        if "or fps=" in str(error):
            faster = float(str(error).rsplit("fps=", 1)[1].rstrip("."))
            assert len(by_time(times, frames, start, faster)) == frames


@given(some.integers(1, 100), some.integers(1, 9), some.data())
def test_by_stride(count, stride, data):
    start = data.draw(some.integers(0, count - 1))
    every = list(range(count))[start::stride]
    assert by_stride(count, None, start, stride) == every
    frames = data.draw(some.integers(1, 100))
    if frames <= len(every):
        assert by_stride(count, frames, start, stride) == every[:frames]
    else:
        with pytest.raises(SelectionError) as caught:
            by_stride(count, frames, start, stride)
        assert caught.value.fit == len(every)


def test_a_start_behind_the_end():
    for choose in (lambda: by_stride(3, None, 3, 1), lambda: by_time([0.0, 0.1, 0.2], None, 3, 8)):
        said = "has 3 frames, so none starts at start=3: the last is 2"
        with pytest.raises(SelectionError, match=said) as caught:
            choose()
        assert caught.value.fit == 0


@pytest.mark.parametrize("fps", [12, 24000 / 1001, 25, 30, 60, 120, 240])
def test_rounding_to_milliseconds_is_no_variable_rate(fps):
    assert not is_variable([round(1000 * index / fps) / 1000 for index in range(100)])


def test_a_variable_rate():
    assert is_variable([0, 0.04, 0.08, 0.16]) and is_variable([0, 0.033, 0.066, 0.116])
    assert not is_variable([0]) and not is_variable([0, 9])
