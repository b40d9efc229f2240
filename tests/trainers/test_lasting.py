"""Imports that are not searched for garbage."""

from __future__ import annotations

import gc

import pytest

from trainers.lasting import lasting


def test_nothing_is_collected_within_and_what_came_stays():
    before = gc.get_freeze_count()
    with lasting():
        assert not gc.isenabled()
        kept = [[number] for number in range(1000)]
    assert gc.isenabled() and gc.get_freeze_count() - before >= len(kept)


def test_it_ends_with_an_import_that_fails():
    with pytest.raises(ImportError), lasting():
        raise ImportError
    assert gc.isenabled()


def test_a_program_that_never_collects_goes_on_so():
    gc.disable()
    try:
        with lasting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
