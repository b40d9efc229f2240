"""In-flight records and failures: what a killed run leaves for the next one."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid

import pytest
import torch

from ditflow.bank import EntryError, MotionBank
from tests.ditflow.bank.entries import make_entry


@pytest.fixture(params=["local", "memory"])
def bank(request, tmp_path):
    return MotionBank(
        tmp_path if request.param == "local" else f"memory://{uuid.uuid4().hex}", create=True
    )


def test_a_record_comes_back_exactly(bank):
    tensors = {
        "latents": torch.randn(2, 3, 4),
        "generator": torch.get_rng_state(),
        "step": torch.tensor(7),
        "half": torch.randn(3, dtype=torch.bfloat16),
        "none": torch.zeros(0, 4),
    }
    metadata = {
        "names": ["kite", "boat"],
        "step": 7,
        "losses": [[0.5, 1e-7]],
        "done": False,
        "nothing": None,
    }
    assert bank.load_inflight("batch") is None and bank.inflight() == []
    bank.save_inflight("batch", tensors, metadata)
    loaded, told = bank.load_inflight("batch")
    assert told == metadata and bank.inflight() == ["batch"] and len(bank) == 0
    assert loaded.keys() == tensors.keys() and all(
        loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)
        for name, tensor in tensors.items()
    )
    loaded["latents"].add_(1)  # ordinary memory, which may be written


def test_it_is_replaced_and_dropped(bank):
    for step in range(3):
        bank.save_inflight("batch", {"x": torch.full((2,), step)}, {"step": step})
    assert bank.load_inflight("batch")[1] == {"step": 2}
    bank.drop_inflight("batch")
    bank.drop_inflight("batch")
    assert bank.load_inflight("batch") is None and bank.inflight() == []


def test_a_damaged_record_is_found(tmp_path):
    bank = MotionBank(tmp_path, create=True)
    bank.save_inflight("batch", {"x": torch.zeros(50)}, {})
    file = tmp_path / "inflight" / "batch.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(EntryError, match="in-flight record 'batch' is damaged"):
        bank.load_inflight("batch")
    assert bank.verify() == [
        "in-flight record 'batch' is damaged: its tensors do not have the sha256 that its header "
        "gives."
    ]


def test_garbage_of_a_killed_writer_is_not_seen(tmp_path):
    bank = MotionBank(tmp_path, create=True)
    bank.save_inflight("batch", {}, {})
    bank["kite"] = make_entry()
    for folder in ("inflight", "entries", "failed"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / ".0123456789abcdef.tmp").write_bytes(b"half")
    assert (
        bank.inflight() == ["batch"]
        and list(bank) == ["kite"]
        and bank.failures() == {}
        and bank.verify() == []
    )


def test_metadata_that_are_no_json_write_nothing(bank):
    for metadata in ({"x": torch.zeros(1)}, {"x": float("nan")}):
        with pytest.raises((TypeError, ValueError)):
            bank.save_inflight("batch", {}, metadata)
    assert bank.inflight() == []


@pytest.mark.parametrize("delay", [0.0, 0.017, 0.06])
def test_kill_9_leaves_a_whole_record(tmp_path, delay):
    """A process saves as fast as it can and is killed: what it leaves is one of its states,
    whole.
    """
    code = "\n".join(
        [
            "import torch; from ditflow.bank import MotionBank; from tests.ditflow.bank.entries "
            "import make_entry",
            f"bank, step = MotionBank({str(tmp_path)!r}, create=True), 0",
            "while True:",
            "    bank.save_inflight('batch', {'x': torch.full((100_000,), float(step))}, {'step': "
            "step})",
            "    bank.put('kite', make_entry(step), overwrite=True)",
            "    step += 1; print(step, flush=True)",
        ]
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    printed = writer.stdout.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        writer.wait(timeout=delay)
    writer.send_signal(signal.SIGKILL)
    saved = int((printed + writer.communicate()[0]).split()[-1])
    bank = MotionBank(tmp_path)
    tensors, metadata = bank.load_inflight("batch")
    assert metadata["step"] >= saved - 1 and tensors["x"].eq(metadata["step"]).all()
    assert (
        bank.verify() == []
        and list(bank) == ["kite"]
        and bank["kite"].metadata.seed in (metadata["step"], metadata["step"] - 1)
    )


def test_failures_are_counted_and_end_with_the_entry(bank):
    bank.mark_failed("kite", "kite.mp4 is truncated.")
    bank.mark_failed("boat", "out of memory")
    bank.mark_failed("kite", "kite.mp4 is still truncated: \ud800 \x1b[31m")
    failures = bank.failures()
    assert (
        list(failures) == ["boat", "kite"]
        and failures["kite"].attempts == 2
        and failures["boat"].attempts == 1
    )
    assert failures["kite"].reason.startswith("kite.mp4 is still truncated")
    bank["kite"] = make_entry()
    assert list(bank.failures()) == ["boat"] and list(bank) == ["kite"]


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b'{"reason":1,"attempts":1,"date":"2026-01-01"}', b'{"reason":"x"}'],
)
def test_a_damaged_failure_is_still_a_failure(tmp_path, text):
    bank = MotionBank(tmp_path, create=True)
    bank.mark_failed("kite", "no")
    (tmp_path / "failed" / "kite.json").write_bytes(text)
    assert "cannot be read" in bank.failures()["kite"].reason
    bank.mark_failed("kite", "again")
    assert bank.failures()["kite"].reason == "again"
