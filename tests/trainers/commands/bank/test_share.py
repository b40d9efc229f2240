"""`ditflow bank push|pull` against a stand-in of the hub on loopback: one commit or none, only
sound entries, nothing private, and every refusal one sentence.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from ditflow.bank import FieldEntry, MotionBank, hub
from ditflow.bank.search import rows
from tests.ditflow.bank.entries import assert_same, make_entry, make_field_entry
from tests.hub import reached
from trainers.commands.bank.command import main

REPO, URL = "anna/bank", "hf://datasets/anna/bank"
ASKED = "--licence", "cc-by-4.0", "--source", "my own clips, https://example.org"
MADE = {"README.md", "index.jsonl", "search.safetensors", "pictures/pan.png", ".gitattributes"}
INDEXES = {"index.jsonl", "search.safetensors"}


@pytest.fixture
def bank(tmp_path):
    """With all that a run leaves beside its entries."""
    bank = MotionBank(tmp_path / "bank", create=True)
    bank["kite"], bank["pan"] = make_entry(1), make_field_entry(2)
    bank.mark_failed("car", "it is in /home/anna/secret")
    bank.save_inflight("batch", {"latents": torch.zeros(2)}, {"names": ["car"]})
    Path(bank.path, "notes.txt").write_text("secret")
    Path(bank.path, "entries", "secret.pkl").write_bytes(b"\x80\x04.")
    bank.reindex()
    return bank


@pytest.fixture
def run(capsys):
    """Exit code, what was printed, and the one sentence on stderr."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def refused(result):
    code, printed, sentence = result
    assert code == 2 and printed == "" and sentence.count("\n") == 1, result
    return sentence


def entries(*names):
    return {f"entries/{name}.safetensors" for name in names}


def test_push_and_pull(there, bank, run, tmp_path):
    code, printed, _ = run("push", bank.path, REPO, *ASKED)
    assert code == 0
    assert printed == f"2 entries pushed, 0 there already: {there.url}/datasets/{REPO}\n"
    assert set(there.files(REPO)) == MADE | entries("kite", "pan")
    assert b"secret" not in b"".join(there.files(REPO).values())
    for name in bank:
        assert_same(MotionBank(URL)[name], bank[name])
    assert run("pull", REPO, tmp_path / "new")[:2] == (
        0,
        "2 entries copied, 0 there already, 0 refused\n",
    )
    for name in bank:
        path = f"entries/{name}.safetensors"
        assert (tmp_path / "new" / path).read_bytes() == Path(bank.path, path).read_bytes()
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"entries", *INDEXES}
    assert run("pull", REPO, tmp_path / "new")[1].startswith("0 entries copied, 2 there already")


def test_the_list_of_a_pushed_bank_reads_no_entry(there, bank, run):
    run("push", bank.path, REPO, *ASKED)
    there.asked.clear()
    assert run("list", URL)[0] == 0
    assert [path for path in there.asked if "resolve" in path] == [
        f"GET /datasets/{REPO}/resolve/{there.repositories[REPO].commits[-1][0]}/index.jsonl"
    ]


def test_a_search_there_reads_the_index_and_what_it_finds(there, bank, run):
    """Also of a bank that others have added to, and after the index was removed by hand."""
    bank["boat"] = make_field_entry(3, words="rolls clockwise")
    run("push", bank.path, REPO, *ASKED)
    del bank["boat"], bank["kite"]
    bank["sail"] = make_field_entry(4, words="zooms in")
    run("push", bank.path, REPO, *ASKED)

    def found(*query):
        there.asked.clear()
        assert run("search", URL, *query)[0] == 0
        return {path.rpartition("/")[2] for path in there.asked if "resolve" in path}

    index = "search.safetensors"
    assert found("--words", "roll clockwise") == {"boat.safetensors", index}
    assert found("--words", "tilt up") == {index}
    assert found("--words", "zoom in") == {"sail.safetensors", index}
    repository = there.repositories[REPO]
    files = {path: data for path, data in there.files(REPO).items() if path != index}
    there.add(REPO, files)
    assert there.repositories[REPO] is not repository
    assert {"boat.safetensors", "kite.safetensors"} < found("--words", "roll clockwise")


def test_what_is_pulled_is_searched_by_an_index_of_its_own(there, bank, run, tmp_path):
    """One on the hub that lies about content and words finds nothing else here."""
    run("push", bank.path, REPO, *ASKED)
    known = rows.rows_at(URL)
    known.of.words[:] = ["rolls clockwise"] * len(known.of.words)
    there.repositories[REPO].commit({rows.FILE: b"".join(rows.packed(known))})
    assert "0 shown of 1 entry" in run("search", URL, "--words", "roll")[1]
    assert run("pull", REPO, tmp_path / "new")[0] == 0
    assert rows._kept(MotionBank(tmp_path / "new")._folder).of.words == ["", "pans left slowly"]


def test_a_second_push_adds_what_is_new(there, bank, run, tmp_path):
    run("push", bank.path, REPO, *ASKED)
    commits = there.repositories[REPO].commits
    assert run("push", bank.path, REPO, *ASKED)[1].startswith("0 entries pushed, 2 there already")
    assert len(commits) == 2, "nothing has changed, so there is no new commit"
    other = MotionBank(tmp_path / "other", create=True)
    other["boat"], other["kite"] = make_field_entry(3), make_entry(1, seconds=99.0)
    assert run("push", other.path, REPO, *ASKED)[1].startswith("1 entry pushed, 1 there already")
    assert [row.name for row in MotionBank(URL).index()] == ["boat", "kite", "pan"]
    assert {"pictures/boat.png", "pictures/pan.png"} <= set(there.files(REPO))
    assert there.files(REPO)["README.md"].count(b"![](pictures/") == 2
    assert_same(MotionBank(URL)["kite"], bank["kite"])
    pulled = MotionBank(tmp_path / "old", create=True)
    assert run("pull", REPO, pulled.path, "--revision", commits[1][0])[0] == 0
    assert list(pulled) == ["kite", "pan"]


def test_another_entry_of_one_name_is_not_replaced_unasked(there, bank, run):
    run("push", bank.path, REPO, *ASKED)
    before, fresh = there.repositories[REPO].commits[-1], make_entry(5)
    bank.put("kite", fresh, overwrite=True)
    sentence = refused(run("push", bank.path, REPO, *ASKED))
    assert "already holds another entry 'kite': nothing was pushed" in sentence
    assert there.repositories[REPO].commits[-1] is before
    assert run("push", bank.path, REPO, *ASKED, "--overwrite")[1].startswith("1 entry pushed")
    assert_same(MotionBank(URL)["kite"], fresh)


def test_a_damaged_entry_there_is_mended(there, bank, run):
    there.add(REPO, {"README.md": b"#", "entries/kite.safetensors": make_entry(1).to_bytes()[:-9]})
    assert run("push", bank.path, REPO, *ASKED)[1].startswith("2 entries pushed, 0 there already")
    assert MotionBank(URL).verify() == []


def test_a_dry_run_says_which_files_and_pushes_nothing(there, bank, run):
    code, printed, _ = run("push", bank.path, REPO, *ASKED, "--dry_run")
    *files, line = printed.splitlines()
    assert code == 0 and set(files) == MADE - {".gitattributes"} | entries("kite", "pan")
    assert line == f"2 entries would be pushed, 0 there already: {URL}"
    assert not there.repositories and not [path for path in there.asked if path[0] == "P"]


def test_a_card_says_what_it_was_told_and_shows_strangers_words_as_text(there, bank, run):
    evil = "<img src=x> [a](http://b.c) | `**\nwww.d.e # @f"
    bank["odd"] = make_entry(3, prompt=evil, backbone="a|b<i>")
    bank["still"] = make_field_entry(4, words=evil)
    assert run("push", bank.path, REPO, *ASKED)[0] == 0
    card = there.files(REPO)["README.md"].decode()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert "my own clips, https://example.org" in card and "the motions of 4 clips" in card
    assert "- 2 motion fields, for any model" in card
    assert "- 1 of optimised rotary&#95;positions, for tiny&#45;rope alone" in card
    assert 'ditflow.load_motion(pipe, "anna/bank", entry="kite")' in card
    assert "| `pan` | ![](pictures/pan.png) | pans left slowly |" in card
    for sign in ("<img", "](http", "**", "www.", "@f", "<i>"):
        assert sign not in card
    assert "&#60;img src&#61;x&#62;" in card
    rows = [line for line in card.splitlines() if line.startswith("| `")]
    assert len(rows) == 4 and all(row.count("|") == 4 for row in rows)
    picture = Path(bank.path, "pan.png")
    picture.write_bytes(there.files(REPO)["pictures/pan.png"])
    with Image.open(picture) as image:
        assert image.format == "PNG" and image.size == (128, 96)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (ASKED[:2], "says where its clips are from: give --source"),
        (ASKED[2:], "says what its licence is: give --licence with the hub's name"),
        (("--licence", "all mine", *ASKED[2:]), "give --licence with the hub's name"),
        ((*ASKED[:2], "--source", " "), "give --source"),
    ],
)
def test_licence_and_source_are_asked_for(there, bank, run, options, sentence):
    assert sentence in refused(run("push", bank.path, REPO, *options))
    assert there.asked == []


@pytest.mark.parametrize(
    "told",
    [
        {"backbone": "/home/anna/wan"},
        {"backbone": "~/wan"},
        {"clip": "C:\\clips\\car.mp4"},
        {"loras": ({"file": "/data/style.safetensors", "sha256": "", "scale": 1.0},)},
        {"signal": {"name": "amf", "of": ["a", "the /srv/model"]}},
    ],
)
def test_places_on_this_machine_stay_here(there, bank, run, told):
    bank["car"] = make_entry(6, **told)
    sentence = refused(run("push", bank.path, REPO, *ASKED))
    assert f"Entry 'car' names a place on this machine: its {next(iter(told))} is" in sentence
    assert not there.repositories


def test_prose_and_relative_paths_go_up(there, bank, run):
    bank["car"] = make_entry(6, prompt="/imagine a car", backbone="models/wan", clip="a/b.mp4")
    assert run("push", bank.path, REPO, *ASKED)[0] == 0


def test_damaged_entries_and_no_entries(there, bank, run, tmp_path):
    MotionBank(tmp_path / "none", create=True).reindex()
    sentence = refused(run("push", tmp_path / "none", REPO, *ASKED))
    assert "has no entries to push" in sentence
    file = Path(bank.path, "entries", "kite.safetensors")
    file.write_bytes(file.read_bytes()[:-3] + b"abc")
    assert "entry 'kite' is damaged" in refused(run("push", bank.path, REPO, *ASKED))
    assert not there.repositories


@pytest.mark.parametrize(
    ("fails", "sentence"),
    [
        ({"PUT /upload/": 500}, "the hub answers with error 500: try again later"),
        ({"POST /api/datasets/anna/bank/commit": 500}, "the hub answers with error 500"),
        ({"POST /api/datasets/anna/bank/commit": 409}, "it was changed meanwhile"),
        ({"info/lfs/objects/batch": 403}, "your token does not allow it"),
        ({"POST /api/datasets/anna/bank/preupload": 429}, "it was asked too often"),
    ],
)
def test_half_an_upload_leaves_the_bank_as_it_was(there, bank, run, fails, sentence):
    run("push", bank.path, REPO, *ASKED)
    before = there.repositories[REPO].commits[-1]
    bank["boat"] = make_field_entry(3)
    there.fails.update(fails)
    assert sentence in refused(run("push", bank.path, REPO, *ASKED))
    assert there.repositories[REPO].commits[-1] is before
    there.fails.clear()
    assert run("push", bank.path, REPO, *ASKED)[1].startswith("1 entry pushed")
    assert MotionBank(URL).verify() == []


def test_a_bank_that_others_change_meanwhile(there, bank, run, monkeypatch):
    """Another push lands between the look and the commit: it stays, and this one says so."""
    run("push", bank.path, REPO, *ASKED)
    bank["boat"], other = make_field_entry(3), make_field_entry(4).to_bytes("sail")
    upload = hub.upload

    def late(*arguments, **options):
        there.repositories[REPO].commit({"entries/sail.safetensors": other})
        return upload(*arguments, **options)

    monkeypatch.setattr(hub, "upload", late)
    sentence = refused(run("push", bank.path, REPO, *ASKED))
    assert "it was changed meanwhile, and nothing was pushed: run the same command" in sentence
    monkeypatch.undo()
    with reached(there.url, Path(bank.path)):
        assert run("push", bank.path, REPO, *ASKED)[0] == 0
        assert list(MotionBank(URL)) == ["boat", "kite", "pan", "sail"]


def test_tokens_and_repositories_that_cannot_be(there, bank, run, tmp_path):
    with reached(there.url, tmp_path / "nobody", token=""):
        sentence = refused(run("push", bank.path, REPO, *ASKED))
    assert "you are not logged in, or your token is not valid: log in with `hf auth" in sentence
    there.fails["/api/repos/create"] = 403
    assert "your token does not allow it" in refused(run("push", bank.path, REPO, *ASKED))
    there.fails.clear()
    unheard = ("--licence", "unheard-of", *ASKED[2:])
    assert '"license" must be one of' in refused(run("push", bank.path, "anna/new", *unheard))
    there.add("anna/data", {"README.md": b"# years of work"})
    sentence = refused(run("push", bank.path, "anna/data", *ASKED))
    assert "is no bank: it holds README.md" in sentence
    for repo in ("bank", "a/b/c", "an na/bank", "../bank"):
        assert "name it as user/name" in refused(run("push", bank.path, repo, *ASKED))
        assert "name it as user/name" in refused(run("pull", repo, tmp_path / "new"))
    assert "is not a motion bank" in refused(run("pull", "anna/data", tmp_path / "new"))
    assert "nothing by that name" in refused(run("pull", "anna/none", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_latents_of_a_clip_are_told(there, bank, run):
    """A clip can be decoded from them: who pushes them is to know."""
    assert run("push", bank.path, REPO, *ASKED, "--dry_run")[2] == ""
    bank.put("kite", make_entry(1, latents=True), overwrite=True)
    code, _, said = run("push", bank.path, REPO, *ASKED, "--dry_run")
    assert code == 0 and "kite keeps the latents of its clip, from which its pictures can" in said


def test_private(there, bank, run):
    run("push", bank.path, REPO, *ASKED, "--private")
    assert there.repositories[REPO].private
    there.repositories[REPO].private = False
    sentence = refused(run("push", bank.path, REPO, *ASKED, "--private"))
    assert "is public already: make it private on its page" in sentence


def test_pull_takes_only_what_is_sound(there, run, tmp_path):
    """A damaged entry, numbers that are not finite, another's name, pickles: the rest lands."""
    good, broken = make_field_entry(1).to_bytes("good"), make_entry(2)
    broken.parameters[0, 0, 0] = torch.nan
    files = {
        "entries/good.safetensors": good,
        "entries/cut.safetensors": make_entry(1).to_bytes("cut")[:-5],
        "entries/nan.safetensors": broken.to_bytes("nan"),
        "entries/swapped.safetensors": good,
        "entries/.hidden.safetensors": good,
        "entries/deep/er.safetensors": good,
        "entries/bank.pkl": b"\x80\x04.",
        **dict.fromkeys(INDEXES, b"not to be believed"),
        "inflight/x.safetensors": good,
        "failed/x.json": json.dumps({"reason": "evil"}).encode(),
    }
    there.add(REPO, files)
    code, printed, said = run("pull", REPO, tmp_path / "new")
    assert code == 1 and printed.startswith("1 entry copied")
    for sentence in ("'cut' is truncated", "not finite", "'swapped' was swapped or renamed"):
        assert sentence in said
    assert said.count("not pulled: ") == 3
    landed = {path.name for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert landed == {"good.safetensors", *INDEXES}
    assert isinstance(MotionBank(tmp_path / "new")["good"], FieldEntry)


@pytest.mark.parametrize("name", ["entries/../../evil.safetensors", "../entries/evil.safetensors"])
def test_a_path_that_leaves_the_bank(there, run, tmp_path, name):
    """It is refused, or not asked for; no file of it lies anywhere."""
    there.add(REPO, {"entries/pan.safetensors": make_field_entry(1).to_bytes("pan"), name: b"evil"})
    code, _, said = run("pull", REPO, tmp_path / "new")
    assert (code, "cannot contain a '..'" in said) in ((0, False), (2, True))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not [path for path in files if path.read_bytes() == b"evil"]
    assert code or list(MotionBank(tmp_path / "new")) == ["pan"]


def test_a_pull_that_is_cut_off_leaves_nothing(there, bank, run, tmp_path):
    run("push", bank.path, REPO, *ASKED)
    there.fails["resolve/"] = 502
    with reached(there.url, tmp_path / "fresh"):
        sentence = refused(run("pull", REPO, tmp_path / "new"))
    assert "the hub answers with error 502: try again later" in sentence
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["push", "pull"])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and f"example: ditflow bank {command}" in capsys.readouterr().out
