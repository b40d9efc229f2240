"""Whole or absent, whatever happens while a file is written."""

from __future__ import annotations

import errno
import os

import pytest

from ditflow.files import StorageError, atomic_file, make_folder


def test_a_file_appears_at_the_end_and_replaces_the_old_one(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with atomic_file(tmp_path / "file") as stream:
        stream.write(b"new")
        stream.flush()
        assert (tmp_path / "file").read_bytes() == b"old"
        assert all(
            path.name == "file" or (path.name.startswith(".") and path.name.endswith(".tmp"))
            for path in tmp_path.iterdir()
        )
    assert (tmp_path / "file").read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_others_may_read_it_as_the_umask_says(tmp_path):
    umask = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "file") as stream:
            stream.write(b"x")
    finally:
        os.umask(umask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_what_fails_leaves_the_old_file(tmp_path, error):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(error), atomic_file(tmp_path / "file") as stream:
        stream.write(b"half")
        raise error
    assert (tmp_path / "file").read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_everything_is_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    """Power loss: data first, then the name, then the folder that holds the name."""
    events, fsync, replace = [], os.fsync, os.replace

    def flushing(descriptor):
        events.append(
            "folder"
            if os.path.isdir(f"/proc/self/fd/{descriptor}")
            else f"data {os.fstat(descriptor).st_size}"
        )
        fsync(descriptor)

    def renaming(*names):
        events.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(os, "replace", renaming)
    with atomic_file(tmp_path / "file") as stream:
        stream.write(b"12345")
    assert events == ["data 5", "rename", "folder"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere/file", "there is no such folder"),
        ("taken/file", "a part of that path is a file"),
        ("folder", "there is a folder of that name"),
        ("x" * 300, "too long"),
    ],
)
def test_a_refusal_is_one_sentence(tmp_path, path, message):
    (tmp_path / "taken").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError) as caught, atomic_file(tmp_path / path) as stream:
        stream.write(b"x")
    assert str(caught.value).startswith(f"Cannot write {tmp_path / path}: ") and message in str(
        caught.value
    )
    assert (
        sorted(os.listdir(tmp_path)) == ["folder", "taken"]
        and os.listdir(tmp_path / "folder") == []
    )


def test_folders_are_made_once(tmp_path):
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Cannot make the folder .*file"):
        make_folder(tmp_path / "file" / "a")


def test_an_unknown_error_keeps_the_systems_words():
    assert (
        str(StorageError.of(OSError(errno.ESTALE, "Stale file handle"), "write", "/mnt/x"))
        == "Cannot write /mnt/x: Stale file handle."
    )
    assert str(StorageError.of(OSError("odd"), "write", "x")) == "Cannot write x: odd."
