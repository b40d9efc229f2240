"""In-flight records: what is saved comes back bit by bit, grows by one parameter a step, and is
never half believed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from datamodules.queue import inflight as records
from ditflow.bank import EntryError, MotionBank
from ditflow.sampling.state import State

NAMES, SETTINGS = ("a", "b"), "settings"
KEY = records.key_of(NAMES, SETTINGS)


def state_after(steps: int, guided: int) -> State:
    generator = torch.Generator().manual_seed(steps)
    latents, noise, parameter, x0 = (torch.randn(2, 3, 4, generator=generator) for _ in range(4))
    history = tuple(torch.full((2, 5), float(step)) for step in range(guided))
    losses = tuple(torch.full((3, 2), float(step)) for step in range(guided))
    generators = torch.stack([torch.Generator().manual_seed(seed).get_state() for seed in range(2)])
    return State(
        steps, latents, noise, parameter, generators, x0 if steps else None, history, losses
    )


@pytest.fixture
def bank(tmp_path) -> MotionBank:
    return MotionBank(tmp_path / "bank", create=True)


def save(bank: MotionBank, steps: int, guided: int, *, new: bool = True) -> State:
    state = state_after(steps, guided)
    records.save(bank, NAMES, SETTINGS, state, 1.5, steps=9, guided=new)
    return state


@pytest.mark.parametrize(("steps", "guided"), [(0, 0), (1, 0), (1, 1), (3, 3), (5, 3)])
def test_round_trip(bank, steps, guided):
    for earlier in range(1, guided):
        save(bank, earlier, earlier)
    state = save(bank, steps, guided, new=guided > 0)
    found, seconds = records.load(bank, KEY)
    assert seconds == 1.5
    wanted, tensors = state.tensors(), found.tensors()
    assert wanted.keys() == tensors.keys()
    for name in wanted:
        torch.testing.assert_close(tensors[name], wanted[name], rtol=0, atol=0)


def test_each_guided_step_is_written_once(bank):
    save(bank, 1, 1)
    save(bank, 2, 2)
    first = bank.load_inflight(f"{KEY}.guided0000")
    save(bank, 3, 2, new=False)
    assert first is not None and bank.inflight() == [KEY, f"{KEY}.guided0000", f"{KEY}.guided0001"]
    assert (
        bank.load_inflight(KEY)[0].keys() >= {"latents", "losses"}
        and "history" not in bank.load_inflight(KEY)[0]
    )


def test_begun_batches(bank):
    save(bank, 2, 1)
    assert list(records.begun(bank)) == [
        records.InflightBatch(KEY, NAMES, SETTINGS, 2, 9, 1.5, (0.0, 0.0))
    ]


@pytest.mark.parametrize("lost", [KEY, f"{KEY}.guided0000"])
def test_a_damaged_or_missing_part_makes_a_batch_start_again(bank, tmp_path, lost):
    save(bank, 1, 1)
    assert records.next_step(bank, KEY) == 1
    file = tmp_path / "bank" / "inflight" / f"{lost}.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    assert records.next_step(bank, KEY) is None
    file.unlink()
    assert records.next_step(bank, KEY) is None
    assert [record.key for record in records.begun(bank)] == ([] if lost == KEY else [KEY])
    with pytest.raises(EntryError, match="missing"):
        records.load(bank, KEY)


def test_where_a_batch_goes_on_is_told_by_headers_alone(bank, monkeypatch):
    save(bank, 1, 1)
    save(bank, 2, 2)
    monkeypatch.setattr(MotionBank, "load_inflight", None)
    assert records.next_step(bank, KEY) == 2
    assert records.next_step(bank, records.key_of(("c",), SETTINGS)) is None


def test_what_has_a_records_header_and_is_no_state_is_told(bank):
    save(bank, 1, 1)
    tensors, metadata = bank.load_inflight(KEY)
    for wrong in ({"guided": "one"}, {"guided": 1 << 40}, {"step": -1}):
        bank.save_inflight(KEY, tensors, metadata | wrong)
        assert records.next_step(bank, KEY) is None
    bank.save_inflight(KEY, {"latents": tensors["latents"]}, metadata)
    assert records.next_step(bank, KEY) == 1
    with pytest.raises(EntryError, match=f"in-flight record '{KEY}' is not a whole state"):
        records.load(bank, KEY)


def test_dropping_leaves_nothing_and_touches_no_other(bank):
    save(bank, 2, 2)
    records.save(bank, ("c",), SETTINGS, replace(state_after(1, 1)), 0.0, steps=9, guided=True)
    records.drop(bank, KEY)
    assert bank.inflight() == [
        records.key_of(("c",), SETTINGS),
        f"{records.key_of(('c',), SETTINGS)}.guided0000",
    ]


def test_keys_tell_clips_and_settings_apart():
    keys = {
        records.key_of(names, settings)
        for names in (("a", "b"), ("a",), ("b", "a"), ("a/b",))
        for settings in ("x", "y")
    }
    assert len(keys) == 8
    assert len(records.key_of(("n" * 128,), SETTINGS)) + len(".guided0000") <= 128


def test_a_state_that_comes_from_elsewhere_is_kept_unless_it_is_behind(bank):
    ahead = state_after(3, 3)
    records.restore(bank, NAMES, SETTINGS, ahead, 1.5, steps=9)
    found, seconds = records.load(bank, KEY)
    assert seconds == 1.5 and found.step == 3
    torch.testing.assert_close(
        found.tensors()["history"], ahead.tensors()["history"], rtol=0, atol=0
    )
    records.restore(bank, NAMES, SETTINGS, state_after(2, 2), 0.5, steps=9)
    assert records.load(bank, KEY)[0].step == 3
