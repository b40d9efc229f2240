"""A disk that refuses: one clear sentence, nothing half-written, and what was there stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from ditflow.bank import BankError, BankStorageError, MotionBank
from tests.ditflow.bank.entries import assert_same, make_entry

SENTENCES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EROFS: "the disk is mounted read-only",
    errno.EDQUOT: "quota",
    errno.EIO: "the disk reports an error",
}


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refuse(monkeypatch, calls, code):
    def failing(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    for call in calls:
        monkeypatch.setattr(os, call, failing)


@pytest.mark.parametrize("code", SENTENCES)
@pytest.mark.parametrize("calls", [("fsync",), ("replace", "link")], ids=["flush", "name"])
def test_a_disk_that_refuses(tmp_path, monkeypatch, calls, code):
    bank = MotionBank(tmp_path, create=True)
    bank["kite"] = make_entry(1)
    bank.save_inflight("batch", {}, {"step": 1})
    bank.mark_failed("boat", "no")
    before = files(tmp_path)
    refuse(monkeypatch, calls, code)
    for write in (
        lambda: bank.put("new", make_entry(2)),
        lambda: bank.put("kite", make_entry(2), overwrite=True),
        lambda: bank.save_inflight("batch", {}, {"step": 2}),
        lambda: bank.mark_failed("boat", "again"),
        bank.reindex,
    ):
        with pytest.raises(
            BankStorageError, match=f"Cannot write {tmp_path}.*{SENTENCES[code]}"
        ) as caught:
            write()
        assert (
            caught.value.errno == code
            and isinstance(caught.value, OSError)
            and isinstance(caught.value, BankError)
        )
    monkeypatch.undo()
    assert files(tmp_path) == before and bank.verify() == []
    assert_same(bank["kite"], make_entry(1))
    assert bank.load_inflight("batch")[1] == {"step": 1} and bank.failures()["boat"].attempts == 1


def test_a_full_disk_in_the_middle_of_a_write(tmp_path):
    """The operating system itself stops the file after 4 KiB."""
    MotionBank(tmp_path, create=True)["kite"] = make_entry(1)
    code = "\n".join(
        [
            "import resource, sys; from ditflow.bank import *; from tests.ditflow.bank.entries "
            "import make_entry",
            "entry = make_entry(2, latents=True); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, "
            "4096))",
            f"bank = MotionBank({str(tmp_path)!r})",
            "try: bank['large'] = entry",
            "except BankStorageError as error: sys.exit(str(error))",
        ]
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        run.stderr.strip()
        == f"Cannot write {tmp_path}/entries/large.safetensors: the file would be larger than is "
        "allowed here (see `ulimit -f`)."
    )
    assert files(tmp_path) == ["entries/kite.safetensors"] and MotionBank(tmp_path).verify() == []


def test_a_read_only_folder(tmp_path):
    """Read as any user, written by none; root is not stopped by permissions, so it becomes nobody
    first.

    The bank is the current folder: those above it are root's own, and other test processes set
    their permissions.
    """
    MotionBank(tmp_path, create=True)["kite"] = make_entry(1)
    code = "\n".join(
        [
            "import os, sys; from ditflow.bank import *; from tests.ditflow.bank.entries import "
            "make_entry",
            f"os.chdir({str(tmp_path)!r}); bank, entry = MotionBank('.'), make_entry(1)",
            "for folder in ('entries', '.'): os.chmod(folder, 0o555)",
            "bank['kite'], bank.verify()  # imports what it needs while all can be read",
            "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)",
            "assert bank['kite'].content_hash == entry.content_hash and bank.verify() == []",
            "for write in (lambda: bank.put('new', entry), lambda: bank.save_inflight('batch', {}, "
            "{}), bank.reindex, lambda: bank.__delitem__('kite')):",
            "    try: write()",
            "    except BankStorageError as error: print(error)",
        ]
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    os.chmod(tmp_path / "entries", 0o755)
    os.chmod(tmp_path, 0o755)
    assert run.returncode == 0, run.stderr
    wanted = [
        "Cannot write entries/new.safetensors",
        "Cannot make the folder inflight",
        "Cannot write index.jsonl",
        "Cannot remove entries/kite.safetensors",
    ]
    assert run.stdout.splitlines() == [
        f"{start}: permission is denied; name a folder you can write to." for start in wanted
    ]
    assert files(tmp_path) == ["entries/kite.safetensors"]


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "bank").write_text("a file")
    bank = MotionBank(tmp_path / "bank", create=True)
    with pytest.raises(
        BankStorageError, match=r"there is a file of that name|a part of that path is a file"
    ):
        bank["kite"] = make_entry()
    assert (tmp_path / "bank").read_text() == "a file"


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    bank = MotionBank(tmp_path, create=True)
    monkeypatch.setattr(os, "link", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bank["kite"] = make_entry()
    assert files(tmp_path) == []
