"""`ditflow bank reindex|merge|export|rm|gc`: each says what it did, does nothing in a dry run, and
removes nothing that was not asked for.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ditflow.bank import MotionBank
from tests.ditflow.bank.entries import assert_same, make_entry
from trainers.commands.bank.command import main


@pytest.fixture
def bank(tmp_path):
    bank = MotionBank(tmp_path / "a", create=True)
    for number, name in enumerate(["kite", "boat", "car"]):
        bank[name] = make_entry(number)
    return bank


@pytest.fixture
def other(tmp_path):
    """Holds one entry that is the same, made at another time, one that differs, and one of its
    own.
    """
    other = MotionBank(tmp_path / "b", create=True)
    other["kite"] = make_entry(0, seconds=99.0)
    other["boat"] = make_entry(9)
    other["tree"] = make_entry(5)
    return other


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def test_reindex(bank, capsys):
    assert main(["reindex", bank.path]) == 0
    assert (
        capsys.readouterr().out == "3 entries indexed\n" and Path(bank.path, "index.jsonl").exists()
    )


def test_merge_adds_what_is_missing_and_names_what_differs(bank, other, capsys):
    before = snapshot(bank.path)
    assert main(["merge", bank.path, other.path]) == 1
    shown = capsys.readouterr()
    assert shown.out == "1 entry copied, 1 there already, 1 refused\n"
    assert (
        shown.err.startswith(f"not copied: {other.path} already holds an entry 'boat'.")
        and shown.err.count("\n") == 1
    )
    assert (
        sorted(other) == ["boat", "car", "kite", "tree"]
        and other.verify() == []
        and snapshot(bank.path) == before
    )
    assert_same(other["boat"], make_entry(9))
    assert_same(other["car"], make_entry(2))
    assert (
        Path(other.path, "entries/car.safetensors").read_bytes()
        == Path(bank.path, "entries/car.safetensors").read_bytes()
    )
    assert [row.name for row in other.index()] == sorted(other)
    assert (
        main(["merge", bank.path, other.path]) == 1
        and "0 entries copied, 2 there already, 1 refused" in capsys.readouterr().out
    )


def test_merge_leaves_damaged_entries_behind(bank, tmp_path, capsys):
    for name, place in {"kite": 200, "boat": -3}.items():  # in the header; in the tensors
        with open(f"{bank.path}/entries/{name}.safetensors", "r+b") as file:
            file.seek(place, os.SEEK_SET if place > 0 else os.SEEK_END)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
    for dry_run in (["--dry_run"], []):
        assert main(["merge", bank.path, str(tmp_path / "new"), *dry_run]) == 1
        shown = capsys.readouterr()
        assert "1 entry" in shown.out and "2 refused" in shown.out
        assert (
            "entry 'kite' has a header that cannot be read" in shown.err
            and "entry 'boat' is damaged" in shown.err
        )
    assert list(MotionBank(tmp_path / "new")) == ["car"] and set(snapshot(tmp_path / "new")) == {
        "entries/car.safetensors",
        "index.jsonl",
        "search.safetensors",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["merge", "b"],
        ["export", "new"],
        ["export", "new", "kite"],
        ["rm", "kite"],
        ["gc"],
        ["gc", "--unfinished"],
    ],
    ids=" ".join,
)
def test_a_dry_run_changes_nothing(bank, other, tmp_path, capsys, arguments):
    bank.mark_failed("kite", "no")
    command, *rest = arguments
    rest = [str(tmp_path / word) if word in ("b", "new") else word for word in rest]
    before = snapshot(tmp_path)
    assert main([command, bank.path, *rest, "--dry_run"]) == (1 if command == "merge" else 0)
    assert "would" in capsys.readouterr().out and snapshot(tmp_path) == before


def test_export(bank, other, tmp_path, capsys):
    assert main(["export", bank.path, str(tmp_path / "some"), "car", "kite", "car"]) == 0
    assert capsys.readouterr().out == "2 entries copied, 0 there already, 0 refused\n"
    assert (
        list(MotionBank(tmp_path / "some")) == ["car", "kite"]
        and MotionBank(tmp_path / "some").verify() == []
    )
    assert main(["export", bank.path, str(tmp_path / "all")]) == 0 and list(
        MotionBank(tmp_path / "all")
    ) == ["boat", "car", "kite"]
    capsys.readouterr()
    before = snapshot(tmp_path)
    assert main(["export", bank.path, other.path]) == 2
    assert "is a bank already, and `export` makes a new one" in capsys.readouterr().err
    assert main(["export", bank.path, str(tmp_path / "x"), "kite", "../kite"]) == 2
    assert (
        "holds no entry '../kite': nothing was done" in capsys.readouterr().err
        and snapshot(tmp_path) == before
    )


def test_rm_removes_what_was_named_and_nothing_else(bank, capsys):
    before = snapshot(bank.path)
    assert main(["rm", bank.path, "kite", "nothing"]) == 2
    assert (
        "holds no entry 'nothing': nothing was done." in capsys.readouterr().err
        and snapshot(bank.path) == before
    )
    assert main(["rm", bank.path, "kite", "car"]) == 0
    assert capsys.readouterr().out == "removed kite\nremoved car\n" and before.keys() - snapshot(
        bank.path
    ).keys() == {
        "entries/kite.safetensors",
        "entries/car.safetensors",
    }


def test_rm_needs_a_name(bank):
    with pytest.raises(SystemExit) as exit_:
        main(["rm", bank.path])
    assert exit_.value.code == 2 and len(bank) == 3


def test_gc(bank, capsys):
    bank.mark_failed("kite", "no")
    assert main(["gc", bank.path]) == 0
    assert (
        capsys.readouterr().out
        == "removed failed/kite.json: a failure of a clip that has an entry since\n"
        "1 file of garbage\n"
    )
    assert main(["gc", bank.path]) == 0 and capsys.readouterr().out == "0 files of garbage\n"
    assert (
        main(["gc", bank.path, "--hours", "0"]) == 2
        and "nothing is garbage before an hour" in capsys.readouterr().err
    )
