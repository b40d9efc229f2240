"""A bank in object storage: a real S3 server on loopback, reached by the usual environment
alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
import torch

from ditflow.bank import BankError, BankStorageError, MotionBank
from ditflow.bank.leases import Leases
from tests.ditflow.bank.entries import assert_same, make_entry
from trainers.commands.bank.command import main

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'ditflow[s3]'")
server = pytest.importorskip(
    "moto.server", reason="moto is not installed: pip install 'ditflow[test]'"
)

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The server, and an environment in which nothing but what is set here says who we are."""
    empty = str(tmp_path_factory.mktemp("home") / "none")
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        files = {
            "AWS_SHARED_CREDENTIALS_FILE": empty,
            "AWS_CONFIG_FILE": empty,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }
        for name, value in {
            **CREDENTIALS,
            **files,
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem().mkdir("motions")
        yield running
    running.stop()


@pytest.fixture
def url(s3):
    s3fs.S3FileSystem.clear_instance_cache()  # each test reads the environment anew
    return f"s3://motions/{uuid.uuid4().hex}"


def test_publish_list_verify_and_look_up(url, capsys):
    bank, entry = MotionBank(url, create=True), make_entry(1, latents=True)
    assert len(bank) == 0 and bank.verify() == [] and bank.inflight() == []
    bank["kite"] = entry
    bank["kite"] = entry  # the same is no conflict
    with pytest.raises(BankError, match="already holds an entry 'kite'"):
        bank["kite"] = make_entry(2)
    bank["boat"] = make_entry(2)
    assert_same(MotionBank(url)["kite"], entry)
    assert (
        bank.reindex() == 2
        and [row.name for row in bank.index()] == ["boat", "kite"]
        and all(row.mark for row in bank.index())
    )
    assert (
        main(["list", url]) == 0
        and "2 entries, 0 batches in flight, 0 clips failed" in capsys.readouterr().out
    )
    assert main(["verify", url]) == 0 and "2 entries, all sound" in capsys.readouterr().out
    assert main(["show", url, "kite"]) == 0 and "a red kite" in capsys.readouterr().out
    bank._folder.files.pipe_file(
        f"{url}/entries/boat.safetensors",
        bank._folder.files.cat_file(f"{url}/entries/kite.safetensors"),
    )
    assert (
        main(["verify", url]) == 1
        and "entry 'boat' was swapped or renamed" in capsys.readouterr().err
    )


def test_a_killed_run_goes_on_elsewhere(url):
    """State, failures and leases are all in the bucket: a process on another machine finds them."""
    code = "\n".join(
        [
            "import os, torch; from ditflow.bank import MotionBank; from ditflow.bank.leases "
            "import Leases",
            f"bank = MotionBank({url!r}, create=True)",
            "bank.save_inflight('batch', {'latents': torch.arange(4.0)}, {'names': ['kite'], "
            "'step': 3})",
            "bank.mark_failed('boat', 'it is truncated'); assert Leases(bank, "
            "'one').acquire('kite')",
            "os.kill(os.getpid(), 9)",
        ]
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    bank = MotionBank(url)
    tensors, metadata = bank.load_inflight("batch")
    assert (
        torch.equal(tensors["latents"], torch.arange(4.0))
        and metadata["step"] == 3
        and list(bank.failures()) == ["boat"]
    )
    assert Leases(bank, "two").holders() == {"kite": "one"}
    bank["kite"] = make_entry(1)
    bank.drop_inflight("batch")
    assert bank.inflight() == [] and list(bank) == ["kite"] and bank.verify() == []


def test_one_of_many_writers_wins(url):
    """Eight threads, each with a storage client of its own, publish different entries under one
    name at the same moment.
    """
    entries, won, refused, start = (
        [make_entry(seed) for seed in range(8)],
        [],
        [],
        threading.Barrier(8),
    )

    def publish(entry):
        bank = MotionBank(url, create=True)
        start.wait()
        try:
            bank["kite"] = entry
            won.append(entry)
        except BankError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=publish, args=(entry,)) for entry in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        len(won) == 1
        and len(refused) == 7
        and all("already holds an entry 'kite'" in sentence for sentence in refused)
    )
    assert_same(MotionBank(url)["kite"], won[0])


def test_an_entry_replaced_while_it_is_read_is_read_again(url):
    """Object storage hands out a file in pieces. A piece of the old and a piece of the new would be
    a torn read: the tag of the first piece forbids it.
    """
    bank, shapes = MotionBank(url, create=True), []
    bank["kite"] = make_entry(1)

    def use(file, header):
        if not shapes:
            bank.put("kite", make_entry(2), overwrite=True)
            file.cache.cache, file.cache.start, file.cache.end = (
                b"",
                0,
                0,
            )  # what comes next is asked of the server
        shapes.append(header.metadata["seed"])
        return file.read(header.body)

    read = bank._entries.read("kite", use)
    assert shapes == [1, 2] and read == bytes(make_entry(2).parameters.numpy().data.cast("B"))


def test_banks_merge_between_a_folder_and_a_bucket(url, tmp_path, capsys):
    here = MotionBank(tmp_path / "bank", create=True)
    for number, name in enumerate(["kite", "boat"]):
        here[name] = make_entry(number)
    assert (
        main(["merge", here.path, url]) == 0 and main(["export", url, str(tmp_path / "back")]) == 0
    )
    assert "2 entries copied" in capsys.readouterr().out
    for name in here:
        assert (
            Path(tmp_path, "back", "entries", f"{name}.safetensors").read_bytes()
            == Path(here.path, "entries", f"{name}.safetensors").read_bytes()
        )
    assert (
        main(["gc", url]) == 0
        and main(["rm", url, "kite"]) == 0
        and list(MotionBank(url)) == ["boat"]
    )


def test_no_bucket_is_ever_made(url):
    bank = MotionBank(f"s3://misspelt-{uuid.uuid4().hex}/bank", create=True)
    with pytest.raises(
        BankStorageError,
        match=r"Cannot write s3://misspelt-.*/entries/kite.safetensors: there is no such bucket or "
        "folder .*make it first",
    ):
        bank["kite"] = make_entry()
    with pytest.raises(BankError, match="is not a motion bank: there is nothing of that name"):
        MotionBank(bank.path)
    assert [name for name in s3fs.S3FileSystem().ls("") if "misspelt" in name] == []


def test_no_credentials(url, monkeypatch, capsys):
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    assert main(["list", url]) == 2
    shown = capsys.readouterr()
    assert (
        shown.out == ""
        and shown.err.startswith(f"ditflow bank: Cannot look at {url}")
        and shown.err.count("\n") == 1
    )
    assert (
        "unable to locate credentials; give them by the environment, for S3 by AWS_ACCESS_KEY_ID "
        "and AWS_SECRET_ACCESS_KEY or by AWS_PROFILE" in shown.err
    )


@pytest.mark.parametrize(
    "code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken"]
)
def test_credentials_that_are_refused(url, monkeypatch, capsys, code):
    """The sentence that the server gives to a wrong key, a wrong secret, a key without rights and
    an old token.
    """
    from botocore.exceptions import ClientError

    async def refuse(*_, **__):
        raise s3fs.errors.translate_boto_error(
            ClientError({"Error": {"Code": code, "Message": "The server's words."}}, "HeadObject")
        )

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", refuse)
    assert main(["list", url]) == 2
    assert capsys.readouterr().err == (
        f"ditflow bank: Cannot look at {url}/entries: access is denied (The server's words); check "
        "the credentials in the environment and what they allow.\n"
    )


def test_a_server_that_is_gone(url, monkeypatch, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert main(["list", url]) == 2
    shown = capsys.readouterr().err
    assert "Could not connect" in shown and shown.count("\n") == 1


@pytest.mark.parametrize(
    "place",
    [
        "s3://key:hunter2@motions/bank",
        "ftp://anna:hunter2@host/bank",
        "simplecache::s3://key:hunter2@motions/bank",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(place, capsys):
    assert main(["list", place]) == 2
    shown = capsys.readouterr().err
    assert "carries a password" in shown and "hunter2" not in shown


def test_the_bank_commands_still_load_no_torch(url):
    MotionBank(url, create=True)["kite"] = make_entry()
    code = (
        "import sys; from trainers.commands.bank.command import main; "
        f"code = main(['verify', {url!r}]); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
