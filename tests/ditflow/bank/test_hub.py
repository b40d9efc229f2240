"""A bank on the hub, by a stand-in of it on loopback: read at one commit, never written, and every
refusal one sentence.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ditflow.bank import BankError, BankStorageError, MotionBank, hub
from tests.ditflow.bank.entries import assert_same, make_entry, make_field_entry
from tests.hub import reached
from trainers.commands.bank.command import main

URL = "hf://datasets/anna/bank"
ENTRIES = {"kite": make_entry(1), "pan": make_field_entry(2)}
FILES = {f"entries/{name}.safetensors": entry.to_bytes(name) for name, entry in ENTRIES.items()}


@pytest.fixture
def there(there):
    """The stand-in with one bank."""
    there.add("anna/bank", {".gitattributes": b"", "README.md": b"# bank", **FILES})
    return there


@pytest.mark.parametrize("revision", ["", "@main"])
def test_a_bank_is_read_like_any_other(there, revision, capsys):
    bank = MotionBank(URL + revision)
    assert list(bank) == ["kite", "pan"] and bank.verify() == [] and "boat" not in bank
    for name, entry in ENTRIES.items():
        assert_same(bank[name], entry)
    rows = {row.name: row for row in bank.index()}
    assert rows["pan"].size == len(FILES["entries/pan.safetensors"])
    assert rows["pan"].words == "pans left slowly" and rows["pan"].mark != rows["kite"].mark
    assert main(["list", URL + revision]) == 0
    assert "2 entries, 0 batches in flight, 0 clips failed" in capsys.readouterr().out
    assert main(["show", URL, "kite"]) == 0 and "a red kite" in capsys.readouterr().out
    found = bank.search(words="pan left")  # which keeps nothing there for the next time
    assert (found.searched, found.left_out) == (1, 1)


def test_a_bank_in_a_folder_of_a_dataset(there):
    moved = {f"motions/{path}": data for path, data in FILES.items()}
    there.add("anna/data", {"README.md": b"# much else", **moved})
    assert_same(MotionBank("hf://datasets/anna/data/motions")["pan"], ENTRIES["pan"])
    assert sorted(MotionBank(hub.download("hf://datasets/anna/data/motions"))) == ["kite", "pan"]
    with pytest.raises(BankError, match="is not a motion bank"):
        MotionBank("hf://datasets/anna/data")


def test_what_is_read_is_of_one_commit(there):
    """A bank that changes under its reader is read as it was; who opens it anew sees the change."""
    before = MotionBank(URL)
    first = there.repositories["anna/bank"].commits[0][0]
    other = make_field_entry(9)
    there.repositories["anna/bank"].commit(
        {"entries/pan.safetensors": other.to_bytes("pan"), "entries/boat.safetensors": b"?"}
    )
    assert_same(before["pan"], ENTRIES["pan"])
    assert list(before) == ["kite", "pan"] and list(MotionBank(URL)) == ["boat", "kite", "pan"]
    assert_same(MotionBank(URL)["pan"], other)
    assert_same(MotionBank(f"{URL}@{first}")["pan"], ENTRIES["pan"])


def test_files_of_other_kinds_are_left_alone(there):
    """Neither a pickle nor a path that leaves the bank is read, or asked for."""
    there.repositories["anna/bank"].commit(
        {
            "entries/bank.pkl": b"\x80\x04.",
            "entries/deeper/car.safetensors": FILES["entries/pan.safetensors"],
            "weights.bin": b"\x80\x04.",
        }
    )
    bank = MotionBank(URL)
    assert list(bank) == ["kite", "pan"]
    assert bank.verify() == ["entries/bank.pkl is a file that no entry can have."]
    folder = Path(hub.download(URL))
    assert not list(folder.rglob("*.pkl")) and not list(folder.rglob("*.bin"))
    assert list(MotionBank(folder)) == ["kite", "pan"]
    assert not [path for path in there.asked if "resolve" in path and "safetensors" not in path]


def test_nothing_is_written_there(there):
    bank, sentence = (
        MotionBank(URL),
        r"Fit into a local bank, and share it with `ditflow bank push`",
    )
    for change in (
        lambda: bank.put("boat", make_entry(3)),
        lambda: bank.put("kite", make_entry(3), overwrite=True),
        lambda: bank.__delitem__("kite"),
        lambda: bank.mark_failed("car", "no"),
        bank.reindex,
    ):
        with pytest.raises(BankStorageError, match=sentence):
            change()
    assert len(there.repositories["anna/bank"].commits) == 1
    assert not [path for path in there.asked if not path.startswith(("GET", "HEAD"))]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("hf://datasets/anna/none", "the hub has nothing by that name, or it is private"),
        (f"{URL}@nope", "it has no such revision: check what stands after the @"),
        ("hf://datasets/anna", "is no dataset of the hub: name it as hf://datasets/user/name"),
        ("hf://anna/bank", "is no dataset of the hub: name it as hf://datasets/user/name"),
        ("hf://buckets/anna/bank", "is no dataset of the hub"),
        ("hf://datasets/an na/bank", "it is not written like hf://datasets/user/name"),
        (f"{URL}/entries", "is not a motion bank"),
    ],
)
def test_places_that_cannot_be(there, url, sentence, capsys):
    assert main(["list", url]) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err and shown.err.count("\n") == 1 and shown.out == ""


@pytest.mark.parametrize("token", ["", "hf_of_somebody_else"])
def test_a_private_bank_needs_the_token_of_a_reader(there, tmp_path, token):
    there.repositories["anna/bank"].private = True
    assert list(MotionBank(URL)) == ["kite", "pan"]
    with reached(there.url, tmp_path / "other", token):
        with pytest.raises(BankStorageError, match="log in with `hf auth login` for a private one"):
            MotionBank(URL)
        assert hub.dataset_at("anna/bank") is None


def test_a_gated_bank_says_where_to_ask(there):
    there.repositories["anna/bank"].gated = True
    with pytest.raises(BankStorageError, match="it is gated: accept its terms on its page"):
        MotionBank(URL)["pan"]
    with pytest.raises(BankStorageError, match="it is gated: accept its terms on its page"):
        hub.download(URL)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "you are not logged in, or your token is not valid"),
        (403, "your token does not allow it"),
        (429, "it was asked too often"),
        (503, "the hub answers with error 503: try again later"),
    ],
)
@pytest.mark.parametrize("part", ["/api/datasets/anna/bank", "/tree/", "/resolve/"])
def test_a_hub_that_refuses(there, part, status, sentence):
    there.fails[part] = status
    with pytest.raises(BankStorageError, match=f"^Cannot .*: {sentence}") as refusal:
        MotionBank(URL)["pan"]
    assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".")
    if part == "/resolve/" and status != 401:
        with pytest.raises(BankStorageError, match=sentence):
            hub.download(URL)


def test_without_network(tmp_path, capsys, caplog):
    """One sentence, at once, and no word of the attempts before it."""
    with reached("http://127.0.0.1:9", tmp_path):
        assert main(["list", URL]) == 2
    shown = capsys.readouterr().err
    assert "the hub cannot be reached (ConnectError): check the network" in shown
    assert shown.count("\n") == 1 and not caplog.records


def test_switched_off(there, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BankStorageError, match="switched off by HF_HUB_OFFLINE: unset it"):
        MotionBank(URL)
    assert there.asked == []


def test_ids():
    assert hub.is_hub_id("anna/bank") and hub.is_hub_id("anna/bank@v1.0")
    for text in ("bank", "./bank", "../bank", "/anna/bank", "a/b/c", "anna/", "an na/b", "a/b@"):
        assert not hub.is_hub_id(text)
    assert hub.hub_url("anna/bank", "refs/pr/1") == "hf://datasets/anna/bank@refs%2Fpr%2F1"
    with pytest.raises(BankError, match="'bank' is no dataset of the hub: name it as user/name"):
        hub.hub_url("bank")
