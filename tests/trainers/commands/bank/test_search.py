"""`ditflow bank search`: what a person sees, what a program reads, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ditflow import write_video
from ditflow.bank import MotionBank
from tests.clips import ditflow
from tests.ditflow.bank.entries import make_entry
from tests.ditflow.bank.search.test_search import MOTIONS, entry_of, fill
from tests.trainers.commands.test_motion import panning
from trainers.commands.bank.command import main


@pytest.fixture
def bank(tmp_path: Path) -> MotionBank:
    return fill(MotionBank(tmp_path / "bank", create=True))


def test_words(bank, capsys):
    assert main(["search", bank.path, "--words", "slow pan left"]) == 0
    shown = capsys.readouterr()
    assert [line.split() for line in shown.out.splitlines()] == [
        ["score", "entry", "motion"],
        ["1.00", "left-slowly", "pans", "left", "slowly"],
        ["0.50", "left", "pans", "left"],
        "2 shown of 6 entries with a motion".split(),
    ]
    assert shown.err == ""


def test_like_an_entry(bank, capsys):
    assert main(["search", bank.path, "--like", "left", "--limit", "1"]) == 0
    assert "1.00  left-slowly  pans left slowly" in capsys.readouterr().out


def test_the_only_entry_is_not_like_itself(tmp_path, capsys):
    bank = MotionBank(tmp_path / "one", create=True)
    bank["car"] = entry_of(MOTIONS["left"])
    assert main(["search", bank.path, "--like", "car"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (
        "0 shown of 1 entry with a motion; car itself is left out\n",
        "",
    )


def test_like_a_clip(bank, tmp_path, capsys):
    write_video(tmp_path / "clip.mp4", panning(9), 8)
    assert main(["search", bank.path, "--like", str(tmp_path / "clip.mp4"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["matches"][0]["entry"] == "left" and found["matches"][0]["score"] > 0.9


def test_json(bank, capsys):
    bank["before"] = make_entry(1)
    assert main(["search", bank.path, "--words", "zoom in", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "like": None,
        "words": "zoom in",
        "searched": 6,
        "left_out": 1,
        "matches": [
            {"entry": "zoom", "score": 1.0, "words": "zooms in"},
            {"entry": "up-and-in", "score": 0.6667, "words": "tilts up, zooms in"},
        ],
    }


def test_entries_that_keep_no_motion_are_counted(bank, capsys):
    bank["before"] = make_entry(1)
    assert main(["search", bank.path, "--words", "roll clockwise"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "0 shown of 6 entries with a motion\n"
    assert shown.err.startswith("1 entry keeps no motion and cannot be found: fit again, after")


def test_list_and_show_say_the_motion_of_what_was_optimised(bank, capsys):
    entry, field = make_entry(1), bank["zoom"].field
    bank["kite"] = entry.with_motion(field, "zooms in")
    assert main(["list", bank.path]) == main(["show", bank.path, "kite"]) == 0
    shown = capsys.readouterr().out
    assert "zooms in | a red kite" in shown and "words" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--words", "wobble"], "The word 'wobble' is not understood. Known are: pan left or"),
        (["--like", "kite"], "holds no entry 'kite', and there is no video of that name."),
        (["--like", "still"], "The entry 'still' holds no motion: nothing is like it."),
        (["--words", "pan", "--limit", "0"], "limit is 0: ask for at least 1 entry."),
        ([], "Say what to search for: a motion to be like, or words."),
    ],
)
def test_what_cannot_be_searched_for(bank, capsys, arguments, message):
    assert main(["search", bank.path, *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""


@pytest.mark.parametrize("clip", ["still", "cut", "single", "rubbish"])
def test_a_clip_that_holds_no_motion(bank, tmp_path, capsys, monkeypatch, clip):
    """Through the door of the program, where every mistake becomes one sentence."""
    frames = panning(9)
    if clip == "rubbish":
        (tmp_path / "clip.mp4").write_bytes(b"rubbish")
    else:
        kinds = {
            "still": frames[[0] * 9],
            "cut": torch.cat([frames[:5], 255 - frames.flip(3)[5:]]),
            "single": frames[:1],
        }
        write_video(tmp_path / "clip.mp4", kinds[clip], 8)
    code = ditflow(monkeypatch, "bank", "search", bank.path, "--like", str(tmp_path / "clip.mp4"))
    said = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and "clip" in said
    wanted = {"still": "holds no motion", "cut": "cut at frame 5", "single": "one frame"}
    assert wanted.get(clip, "clip.mp4") in said


def test_an_empty_bank(tmp_path, capsys):
    (tmp_path / "entries").mkdir()
    assert main(["search", str(tmp_path), "--words", "pan"]) == 2
    assert capsys.readouterr().err == "ditflow bank: The bank holds no entries to search.\n"


@pytest.mark.parametrize("query", [["--words", "pan left"], ["--like", "left"]])
@pytest.mark.parametrize("indexed", [True, False])
def test_no_torch_is_loaded_unless_a_clip_is_read(bank, query, indexed):
    """Nor where the index is made anew."""
    bank["kite"] = make_entry(1).with_motion(bank["zoom"].field, "zooms in")
    if indexed:
        bank.search(words="pan")
    command = ["search", bank.path, *query]
    code = (
        "import sys; from trainers.commands.bank.command import main; "
        f"code = main({command!r}); assert not {{'torch', 'cv2'}} & set(sys.modules); "
        "sys.exit(code)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
