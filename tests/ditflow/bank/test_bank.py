"""MotionBank behaves as a mapping that is refused silent replacement, on local folders and by
fsspec alike.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import shutil
import subprocess
import sys
import uuid
from collections.abc import MutableMapping

import pytest
import torch

from ditflow.bank import BankEntry, BankError, EntryError, IndexRow, MotionBank, UnknownEntryError
from tests.ditflow.bank.entries import assert_same, make_entry, make_field_entry

BAD_NAMES = [
    "",
    ".",
    "..",
    "../evil",
    "a/b",
    "a\\b",
    "/etc/passwd",
    ".hidden",
    "x" * 129,
    "pan\n",
    "pän",
    "a b",
    "a:b",
    "nul\0",
    "%2e%2e",
    7,
    None,
    b"pan",
]
GOOD_NAMES = ["a", "A", "0", "x" * 128, "pan-left_01.mp4", "-", "_", "a..b", "con.safetensors"]


@pytest.fixture(params=["local", "file", "memory"])
def url(request, tmp_path):
    place = {
        "local": str(tmp_path / "bank"),
        "file": f"file://{tmp_path}/bank",
        "memory": f"memory://{uuid.uuid4().hex}/bank",
    }
    return place[request.param]


@pytest.fixture
def bank(url):
    return MotionBank(url, create=True)


def test_it_is_a_mapping(bank, url):
    kite, boat = make_entry(1), make_entry(2, latents=True)
    assert (
        isinstance(bank, MutableMapping)
        and len(bank) == 0
        and list(bank) == []
        and "kite" not in bank
        and bank.get("kite") is None
    )
    bank["kite"] = kite
    bank["boat"] = boat
    assert (
        list(bank) == ["boat", "kite"] == list(MotionBank(url))
        and len(bank) == 2
        and "kite" in bank
    )
    assert_same(bank["kite"], kite)
    assert_same(MotionBank(url)["boat"], boat)
    assert [name for name, entry in bank.items() if entry.reference_latents is not None] == ["boat"]
    assert bank.metadata("kite") == kite.metadata
    assert_same(bank.setdefault("kite", boat), kite)
    assert_same(bank.pop("kite"), kite)
    assert list(bank) == ["boat"] and bank.pop("kite", None) is None
    bank.update(kite=kite)
    bank.clear()
    assert len(bank) == 0 and list(MotionBank(url, create=True)) == []


def test_it_agrees_with_a_dict_under_random_commands(bank, url):
    """A model-based test: the same random commands on a bank and on a dict, compared after each
    one.
    """
    choose, model = random.Random(0), {}
    entries = [make_entry(seed) for seed in range(4)]
    names = ["a", "b-1", "b.1", "B", "c_"]
    for _ in range(120):
        name, entry, command = (
            choose.choice(names),
            choose.choice(entries),
            choose.choice(
                ["set", "put", "del", "pop", "get", "in", "reopen", "reindex", "default"]
            ),
        )
        if command == "set" and name in model and model[name] is entry:
            bank[name] = entry  # the same content is no conflict
        elif command == "set" and name in model:
            with pytest.raises(BankError, match="already holds"):
                bank[name] = entry
        elif command == "set":
            bank[name] = model[name] = entry
        elif command == "put":
            bank.put(name, entry, overwrite=True)
            model[name] = entry
        elif command == "del" and name in model:
            del bank[name], model[name]
        elif command == "del":
            with pytest.raises(KeyError):
                del bank[name]
        elif command == "pop":
            assert (bank.pop(name, None) is None) == (model.pop(name, None) is None)
        elif command == "get":
            assert (bank.get(name) is None) == (name not in model)
        elif command == "reopen":
            bank = MotionBank(url, create=True)
        elif command == "reindex":
            assert bank.reindex() == len(model) and [row.name for row in bank.index()] == sorted(
                model
            )
        elif command == "default":
            assert_same(bank.setdefault(name, entry), model.setdefault(name, entry))
        assert (
            list(bank) == sorted(model)
            and len(bank) == len(model)
            and (name in bank) == (name in model)
        )
        assert {key: bank[key].content_hash for key in bank} == {
            key: value.content_hash for key, value in model.items()
        }
    assert bank.verify() == []


def test_an_existing_entry_is_refused_with_the_fix(bank):
    bank["kite"] = make_entry(1)
    with pytest.raises(BankError, match=r"already holds an entry 'kite'.*overwrite=True"):
        bank["kite"] = make_entry(2)
    assert_same(bank["kite"], make_entry(1))
    bank.put("kite", make_entry(2), overwrite=True)
    assert_same(bank["kite"], make_entry(2))


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_names_cannot_leave_the_folder(bank, url, tmp_path, name):
    for act in (
        lambda: bank.put(name, make_entry()),
        lambda: bank.save_inflight(name, {}, {}),
        lambda: bank.mark_failed(name, "no"),
    ):
        with pytest.raises(BankError, match="cannot name an entry"):
            act()
    for look in (lambda: bank[name], lambda: bank.metadata(name), lambda: bank.__delitem__(name)):
        with pytest.raises(UnknownEntryError, match="There is no entry"):
            look()
    assert name not in bank and bank.get(name) is None and bank.load_inflight(name) is None
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_that_are_allowed(bank, name):
    bank[name] = make_entry()
    assert list(bank) == [name]
    assert_same(bank[name], make_entry())


def test_nothing_is_made_before_the_first_write(url, tmp_path):
    bank = MotionBank(url, create=True)
    assert (
        list(bank) == []
        and bank.verify() == []
        and bank.inflight() == []
        and bank.failures() == {}
        and list(bank.index()) == []
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_bank_is_refused(url, tmp_path):
    with pytest.raises(BankError, match="is not a motion bank: there is nothing of that name"):
        MotionBank(url)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "letter.txt").write_text("dear")
    with pytest.raises(BankError, match="is not a motion bank: it holds no entries"):
        MotionBank(tmp_path / "documents")
    with pytest.raises(BankError, match="is not a motion bank"):
        MotionBank(tmp_path / "documents" / "letter.txt")
    with pytest.raises(BankError, match=r"Cannot reach nonsense://bank: .*rotocol"):
        MotionBank("nonsense://bank")


def test_an_entry_is_the_same_bytes_in_every_place(tmp_path):
    import fsspec

    entry, place = make_entry(3), f"memory://{uuid.uuid4().hex}"
    MotionBank(tmp_path, create=True)["kite"] = entry
    MotionBank(place, create=True)["kite"] = entry
    with fsspec.open(f"{place}/entries/kite.safetensors") as file:
        assert (
            file.read()
            == (tmp_path / "entries" / "kite.safetensors").read_bytes()
            == entry.to_bytes("kite")
        )


def test_a_copy_takes_its_new_name(bank):
    bank["kite"] = make_entry()
    bank["copy"] = bank["kite"]
    assert bank["copy"].content_hash == bank["kite"].content_hash and bank.verify() == []


def damaged_bank(tmp_path) -> MotionBank:
    bank = MotionBank(tmp_path / "bank", create=True)
    for number, name in enumerate(
        ["fine", "bit", "cut", "one", "two", "empty", "foreign", "record"]
    ):
        bank[name] = make_entry(number)
    at = tmp_path / "bank" / "entries"
    data = bytearray((at / "bit.safetensors").read_bytes())
    data[-5] ^= 4
    (at / "bit.safetensors").write_bytes(data)
    (at / "cut.safetensors").write_bytes((at / "cut.safetensors").read_bytes()[:-100])
    os.rename(at / "one.safetensors", at / "other")
    os.rename(at / "two.safetensors", at / "one.safetensors")
    os.rename(at / "other", at / "two.safetensors")
    (at / "empty.safetensors").write_bytes(b"")
    (at / "foreign.safetensors").write_bytes(b"not a safetensors file at all")
    bank.save_inflight("record", {"x": torch.zeros(2)}, {})
    shutil.copy(tmp_path / "bank" / "inflight" / "record.safetensors", at / "record.safetensors")
    (at / "bad name.safetensors").write_bytes(b"")
    (at / "notes.txt").write_text("hello")
    return bank


DAMAGES = {
    "bit": "entry 'bit' is damaged: its tensors do not have the sha256 that its header gives.",
    "cut": "entry 'cut' is truncated: its tensors claim 1728 bytes, and the file has 1628 for "
    "them.",
    "one": "entry 'one' was swapped or renamed: its file says it is 'two'.",
    "two": "entry 'two' was swapped or renamed: its file says it is 'one'.",
    "empty": "entry 'empty' is empty.",
    "foreign": "entry 'foreign' is truncated or no safetensors file",
    "record": "entry 'record' is no ditflow bank entry or ditflow motion field: its file says it "
    "is a 'ditflow in-flight record'.",
}


def test_verify_names_each_damage(tmp_path):
    problems = damaged_bank(tmp_path).verify()
    for damage in (
        *DAMAGES.values(),
        "entries/bad name.safetensors is a file that no entry can have.",
        "entries/notes.txt is a file",
    ):
        assert sum(problem.startswith(damage) for problem in problems) == 1, damage
    assert len(problems) == len(DAMAGES) + 2


def test_verify_names_metadata_that_do_not_match_their_tensors(tmp_path):
    """Sums that fit do not help: what the metadata describe must be what the tensors are."""
    bank, tensors = MotionBank(tmp_path, create=True), {"parameters": torch.zeros(3, 2, 24, 3)}
    wrong = {
        "grid": (2, 3, 5),
        "variable": "sinusoidal",
        "timesteps": (900, 800),
        "losses": ((0.1,),),
    }
    for field, value in wrong.items():
        told = make_entry().metadata.as_dict() | {field: value}
        bank._entries.write(field, BankEntry.KIND, told, tensors)
    halves = {"parameters": torch.zeros(3, 2, 24, 3, dtype=torch.float16)}
    bank._entries.write("type", BankEntry.KIND, make_entry().metadata.as_dict(), halves)
    bank["fine"] = make_entry()
    problems = bank.verify()
    assert [problem.split(":")[0] for problem in problems] == [
        f"entry {name!r}" for name in sorted([*wrong, "type"])
    ]
    assert all("metadata:" in problem or "tensors:" in problem for problem in problems)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1.5])
@pytest.mark.parametrize("kind", ["field", "optimised"])
def test_verify_names_numbers_that_reading_refuses_behind_sums_that_fit(tmp_path, kind, number):
    """In the last number of all; 1.5 is no confidence, and a sound parameter."""
    entry = make_field_entry() if kind == "field" else make_entry()
    tensors = {name: tensor.clone() for name, tensor in entry.tensors().items()}
    tensors["confidence" if kind == "field" else "parameters"].view(-1)[-1] = number
    bank = MotionBank(tmp_path, create=True)
    bank._entries.write("kite", entry.KIND, entry.metadata.as_dict(), tensors)
    problems = bank.verify()
    if kind == "optimised" and number == 1.5:
        assert problems == []
        return
    with pytest.raises(EntryError) as caught:
        bank["kite"]
    assert problems == [str(caught.value)]


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_entry_is_refused_and_the_others_serve(tmp_path, name):
    bank = damaged_bank(tmp_path)
    with pytest.raises(EntryError) as caught:
        bank[name]
    assert str(caught.value).startswith(DAMAGES[name])
    assert_same(bank["fine"], make_entry(0))
    bank.put(name, make_entry(9), overwrite=True)
    assert_same(bank[name], make_entry(9))


def test_a_folder_or_a_pipe_is_no_entry(tmp_path):
    bank = MotionBank(tmp_path, create=True)
    bank["kite"] = make_entry()
    (tmp_path / "entries" / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "entries" / "pipe.safetensors")
    assert list(bank) == ["kite"] and bank.verify() == []
    for name in ("folder", "pipe"):
        with pytest.raises(UnknownEntryError):
            bank[name]


def rows_of(bank: MotionBank) -> dict[str, IndexRow]:
    return {row.name: row for row in bank.index()}


def test_the_index_is_derived_and_follows_the_entries(bank, monkeypatch):
    bank["kite"], bank["boat"] = make_entry(1), make_entry(2)
    assert bank.reindex() == 2
    rows = rows_of(bank)
    assert (
        list(rows) == ["boat", "kite"]
        and rows["kite"].loss == 0.25
        and rows["kite"].guided == 3
        and rows["kite"].grid == (2, 3, 4)
    )
    monkeypatch.setattr(
        MotionBank, "metadata", lambda *_: pytest.fail("an entry that has not changed was read")
    )
    assert rows_of(bank) == rows
    monkeypatch.undo()
    bank.put("kite", make_entry(1, prompt="changed", tags=("longer",)), overwrite=True)
    del bank["boat"]
    bank["new"] = make_entry(3)
    assert {name: row.prompt for name, row in rows_of(bank).items()} == {
        "kite": "changed",
        "new": make_entry(3).metadata.prompt,
    }
    assert bank.reindex() == 2 and len(rows_of(bank)) == 2


def test_a_replaced_entry_of_the_same_size_is_seen_at_once(tmp_path):
    """Two writes within one tick of the disk's clock: the time of the file alone would not tell
    them apart.
    """
    bank = MotionBank(tmp_path, create=True)
    for number in range(50):
        bank.put("kite", make_entry(1, prompt=f"{number:02d}"), overwrite=True)
        os.utime(tmp_path / "entries" / "kite.safetensors", ns=(0, 0))
        assert rows_of(bank)["kite"].prompt == f"{number:02d}"
        bank.reindex()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\xff",
        '{"schema":1}',
        '{"schema":3}\n',
        '{"schema":4}\n',
        '{"schema":3}\n{"name":"kite","size":1}\n',
        '{"a":' + "[" * 99999,
        '{"schema":3}\n' + "\n" * 99,
        "x" * (3 << 20),
    ],
    ids=lambda text: text[:20],
)
def test_a_damaged_index_costs_nothing(tmp_path, text):
    bank = MotionBank(tmp_path, create=True)
    bank["kite"] = make_entry()
    good = rows_of(bank)
    (tmp_path / "index.jsonl").write_bytes(text.encode("latin-1"))
    assert rows_of(bank) == good and bank.verify() == []
    assert (
        bank.reindex() == 1
        and json.loads((tmp_path / "index.jsonl").read_text().splitlines()[1])["loss"] == 0.25
    )


def test_a_row_from_a_stranger_is_checked(tmp_path):
    bank = MotionBank(tmp_path, create=True)
    bank["kite"] = make_entry()
    good = rows_of(bank)
    row = dataclasses.asdict(good["kite"])
    for field, value in {
        "prompt": 7,
        "loss": "low",
        "grid": [1],
        "size": -1,
        "extra": 1,
        "name": None,
    }.items():
        (tmp_path / "index.jsonl").write_text(
            '{"schema":3}\n' + json.dumps(row | {field: value}) + "\n"
        )
        assert rows_of(bank) == good


def test_rows_out_of_order_or_of_others_are_passed_over(tmp_path):
    bank = MotionBank(tmp_path, create=True)
    for number, name in enumerate("bdf"):
        bank[name] = make_entry(number)
    good = rows_of(bank)
    lines = [
        json.dumps(dataclasses.asdict(row))
        for row in (good["f"], good["b"], dataclasses.replace(good["d"], name="../d"), good["d"])
    ]
    (tmp_path / "index.jsonl").write_text("\n".join(['{"schema":3}', *lines]))
    assert rows_of(bank) == good


def test_the_index_shows_damaged_entries(tmp_path):
    rows = rows_of(damaged_bank(tmp_path))
    assert (
        rows["fine"].problem == ""
        and rows["cut"].problem.startswith(DAMAGES["cut"])
        and rows["one"].problem.startswith(DAMAGES["one"])
    )


def test_importing_and_reading_a_header_needs_no_torch(tmp_path):
    MotionBank(tmp_path, create=True)["kite"] = make_entry()
    code = (
        f"import sys; from ditflow.bank import MotionBank; bank = MotionBank({str(tmp_path)!r}); "
        "bank.metadata('kite'); bank.reindex(); assert bank.verify() == []; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readers_never_see_half_an_entry(tmp_path):
    """Another process replaces an entry again and again: each reading is one of the two, whole."""
    MotionBank(tmp_path, create=True)["kite"] = make_entry(0)
    code = "\n".join(
        [
            "import sys; from tests.ditflow.bank.entries import make_entry; from ditflow.bank "
            "import MotionBank",
            f"bank, entries = MotionBank({str(tmp_path)!r}), [make_entry(0), make_entry(1, "
            "latents=True)]",
            "print('ready', flush=True)",
            "while True: [bank.put('kite', entry, overwrite=True) for entry in entries]",
        ]
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"ready\n"
        hashes = {make_entry(0).content_hash, make_entry(1, latents=True).content_hash}
        bank, seen = MotionBank(tmp_path), []
        while len(seen) < 100 or (set(seen) != hashes and len(seen) < 5000):
            seen.append(bank["kite"].content_hash)
            assert list(bank) == ["kite"]
        assert set(seen) == hashes
    finally:
        writer.kill()
        writer.wait()
    assert (
        MotionBank(tmp_path)["kite"].content_hash in hashes and MotionBank(tmp_path).verify() == []
    )
