"""GenerationQueue: every video is taken by somebody, in batches of what is alike, and what fails
together is tried in halves.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.queue.generation_queue import Generation, GenerationQueue
from ditflow.bank.leases import Leases


@pytest.fixture
def queue(tmp_path):
    def queue(names="abcdef", *, batch_size=2, holder="me", alike=lambda video: None, waits=0):
        """Of videos by these names; `waits` is how often it looks again for what others hold."""
        videos = [Generation(name, "a dog", None, 0, tmp_path / f"{name}.mp4") for name in names]
        looks = iter([True] * waits)
        leases = Leases(str(tmp_path), holder)
        return GenerationQueue(videos, leases, alike, batch_size, lambda: next(looks, False))

    return queue


def names(batch) -> str:
    return "".join(video.entry for video in batch)


def make(batch) -> None:
    for video in batch:
        video.file.touch()


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 6), (2, 3), (4, 2), (9, 1)])
def test_all_videos_come_in_full_batches(queue, batch_size, batches):
    it = queue(batch_size=batch_size)
    seen = []
    for batch in it:
        seen.append(names(batch))
        make(batch)
    assert ("".join(seen), len(seen), it.left, it.failed) == ("abcdef", batches, {}, {})


def test_a_batch_is_of_what_is_alike(queue):
    seen = [names(batch) for batch in queue("aBcDe", alike=lambda video: video.entry.isupper())]
    assert seen == ["ac", "BD", "e"]


def test_nothing_is_asked_of_videos_that_are_made_alone(queue):
    def asked(video):
        raise AssertionError("there is no batch to be alike for")

    assert len(list(queue(batch_size=1, alike=asked))) == 6


def test_two_processes_make_no_video_twice(queue):
    mine, seen = iter(queue(holder="me")), []
    first = next(mine)
    for batch in queue(holder="they"):
        seen.append(names(batch))
        make(batch)
    make(first)
    assert (names(first), seen, list(mine)) == ("ab", ["cd", "ef"], [])


def test_who_finds_only_what_others_hold_looks_again(queue):
    theirs = iter(queue("ab", holder="they"))
    taken = next(theirs)
    assert list(queue("ab")) == []
    mine = iter(queue("ab", waits=1))
    make(taken)
    assert (list(theirs), list(mine)) == ([], [])


def test_a_batch_that_fails_is_tried_in_halves(queue):
    """One of four breaks what it is in; the others are made, and no lease is left."""
    it, seen = queue("abcd", batch_size=4), []
    for batch in it:
        seen.append(names(batch))
        if "c" in seen[-1]:
            it.halve(batch, ValueError("c breaks it"))
        else:
            make(batch)
    assert seen == ["abcd", "ab", "cd", "c", "d"] and it.failed == {"c": "c breaks it"}
    assert len(seen) <= len(it) and not it.left
    assert [names(batch) for batch in queue("c", holder="they")] == ["c"], "its lease is free"


def test_what_has_failed_by_itself_is_not_in_the_halves(queue):
    it = queue("abc", batch_size=3)
    batches = iter(it)
    first = next(batches)
    it.fail(first[0], ValueError("damaged"))
    it.halve(first[1:], ValueError("together"))
    assert [names(batch) for batch in batches] == ["b", "c"]
    assert list(it.failed) == ["a"]


@pytest.mark.parametrize(
    ("error", "later"), [(MemoryError("full"), ["ef", "gh"]), (ValueError("no"), ["efgh"])]
)
def test_only_where_memory_was_short_later_batches_are_smaller(queue, error, later):
    it = queue("abcdefgh", batch_size=4)
    batches = iter(it)
    it.halve(next(batches), error)
    assert [names(batch) for batch in batches] == ["ab", "cd", *later]


def test_existing_files_are_left_alone(queue, tmp_path):
    Path(tmp_path / "b.mp4").touch()
    assert [names(batch) for batch in queue("abc")] == ["ac"]
