"""A malicious pickle in every place where a user's file is read: it stays data. Backbones and their
parts: tests/ditflow/models/test_loading.py.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from pathlib import Path

import pytest
import torch

from datamodules.encoding_cache import EncodingCache
from datamodules.manifest import read_manifest
from datamodules.prompts import read_prompts
from datamodules.queue import inflight as records
from datamodules.rows import ManifestError
from ditflow.bank import BankEntry, EntryError, MotionBank
from ditflow.bank.leases import Leases
from ditflow.bank.upkeep import find_garbage
from ditflow.video import VideoError, read_video
from tests.ditflow.bank.entries import make_entry
from tests.registry import SIZE, tiny_backbone
from trainers.commands.bank.command import main


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.fixture
def sprung(tmp_path):
    return tmp_path / "sprung"


@pytest.fixture(params=["pickle", "torch", "torch, as it was before zip files"])
def evil(request, sprung):
    if request.param == "pickle":
        return pickle.dumps(Trap(sprung))
    stream = io.BytesIO()
    torch.save(
        {"state_dict": Trap(sprung)},
        stream,
        _use_new_zipfile_serialization=request.param == "torch",
    )
    return stream.getvalue()


def test_the_trap_works(evil, sprung):
    if evil[:2] != b"PK":
        for _ in range(
            4
        ):  # torch's older form is several pickles, the fourth of which is what was saved
            with contextlib.suppress(Exception):
                stream = io.BytesIO(evil)
                while stream.tell() < len(evil):
                    pickle.load(stream)
    else:
        torch.load(io.BytesIO(evil), weights_only=False)
    assert sprung.exists()


def test_in_every_file_of_a_bank(tmp_path, evil, sprung, capsys):
    bank = MotionBank(tmp_path / "bank", create=True)
    bank["fine"] = make_entry()
    for path in (
        "entries/kite.safetensors",
        "inflight/kite.safetensors",
        "inflight/kite.guided0000.safetensors",
        "failed/car.json",
        "leases/kite.0",
        "asked/0123456789abcdef.json",
        "index.jsonl",
    ):
        (tmp_path / "bank" / path).parent.mkdir(exist_ok=True)
        (tmp_path / "bank" / path).write_bytes(evil)
    for read in (
        lambda: bank["kite"],
        lambda: bank.load_inflight("kite"),
        lambda: BankEntry.from_bytes(evil),
        lambda: records.load(bank, "kite"),
    ):
        with pytest.raises(EntryError):
            read()
    assert (
        len(bank.verify()) == 3
        and [row.name for row in bank.index()] == ["fine", "kite"]
        and "cannot be read" in bank.failures()["car"].reason
    )
    assert (
        list(records.begun(bank)) == []
        and bank.requests.names() == set()
        and find_garbage(bank) == []
    )
    assert Leases(bank, "me", expiry=0.0).acquire("kite")
    for command in (
        ["list"],
        ["verify"],
        ["status"],
        ["merge", str(tmp_path / "copy")],
        ["gc", "--unfinished"],
        ["reindex"],
    ):
        assert main([command[0], bank.path, *command[1:]]) in (0, 1), command
    assert list(MotionBank(tmp_path / "copy")) == ["fine"] and not sprung.exists()


def test_in_a_manifest_or_a_file_of_prompts(tmp_path, evil, sprung):
    for suffix in (".csv", ".jsonl", ".txt"):
        file = tmp_path / f"clips{suffix}"
        file.write_bytes(evil)
        for read in (read_manifest, read_prompts):
            with contextlib.suppress(ManifestError):
                read(file)
    assert not sprung.exists()


def test_in_a_clip(tmp_path, evil, sprung):
    for suffix in (".mp4", ".gif", ".npy", ".pt"):
        (tmp_path / f"clip{suffix}").write_bytes(evil)
        with pytest.raises(VideoError):
            read_video(tmp_path / f"clip{suffix}")
    assert not sprung.exists()


def test_in_the_cache_of_encoded_prompts(tmp_path, evil, sprung):
    """What is no safetensors file is made anew."""
    cache = tmp_path / "cache"
    references = EncodingCache(cache, tiny_backbone("rotary"), SIZE)
    good = references.text(["a cat"])
    for file in cache.iterdir():
        file.write_bytes(evil)
    assert torch.equal(references.text(["a cat"]), good) and not sprung.exists()
