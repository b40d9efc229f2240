"""`ditflow video show`: what a file says of itself, as a table and as JSON, or one sentence."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ditflow.video import encode_video, write_video
from tests.clips import ditflow
from tests.ditflow.test_video_provenance import FRAMES, MADE


@pytest.fixture
def show(monkeypatch, capfd):
    """Run the command: its exit code and what it said."""

    def show(*words: object) -> tuple[int, str, str]:
        with monkeypatch.context() as undone:
            code = ditflow(undone, "video", "show", *map(str, words))
        return code, *capfd.readouterr()

    return show


def test_shows_what_the_file_says(show, tmp_path):
    made = dataclasses.replace(MADE, prompt="a red\ncat\x1b[2J\x9b 😀", entry="car", strength=0.5)
    write_video(tmp_path / "one.mp4", FRAMES, 8, made=made)
    code, said, errors = show(tmp_path / "one.mp4")
    rows = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert (code, errors, rows["seed"].strip(), rows["strength"].strip()) == (0, "", "3", "0.5")
    assert rows["entry"].strip() == "car" and "image" not in rows and "window" not in rows
    assert not {"\x1b", "\x9b"} & set(said)
    assert rows["prompt"].startswith(r"a red\ncat\x1b[2J\x9b 😀")
    code, said, _ = show(tmp_path / "one.mp4", "--json")
    assert code == 0 and json.loads(said) == json.loads(json.dumps(made.as_dict()))


@pytest.mark.parametrize("comment", ["", "a film", '{"ditflow": 7}'])
def test_a_video_that_says_nothing_is_one_sentence(show, tmp_path, comment):
    (tmp_path / "one.mp4").write_bytes(encode_video(FRAMES, 8, comment=comment))
    for words in ([], ["--json"]):
        code, said, errors = show(tmp_path / "one.mp4", *words)
        assert (code, said, errors.count("\n")) == (2, "", 1)
        assert errors.startswith(f"ditflow: {tmp_path / 'one.mp4'}") and "how it was made" in errors
    assert show(tmp_path / "absent.mp4")[::2] == (
        2,
        f"ditflow: There is no file or folder {tmp_path / 'absent.mp4'}. Check the path.\n",
    )
