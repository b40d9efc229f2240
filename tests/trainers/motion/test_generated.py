"""`predict` in batches: the videos that are made alone, whatever fails beside them."""

from __future__ import annotations

import os
import shutil

import pytest
import torch

from ditflow.bank import MotionBank
from ditflow.video import read_video
from ditflow.video_provenance import read_provenance
from tests.clips import NAMES, arguments, ditflow
from tests.ditflow.sampling.test_instant import entry_of, pan
from tests.ranks import Ranks
from trainers.motion import generated

PROMPTS = ("a dog", "the cat")
QUICK = ["--model.steps", "3"]


@pytest.fixture(scope="module")
def bank(whole, tmp_path_factory):
    """Three optimised entries and a field."""
    folder = tmp_path_factory.mktemp("both") / "bank"
    shutil.copytree(whole, folder)
    MotionBank(folder)["field"] = entry_of(pan())
    return folder


@pytest.fixture
def predict(bank, tmp_path):
    """The words of a command that makes eight videos."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))

    def predict(out, batch_size=1, place=bank):
        asked = dict(prompts=tmp_path / "prompts.txt", batch_size=batch_size)
        return [*arguments("predict", place, **asked), "--out", tmp_path / out, *QUICK]

    return predict


@pytest.fixture
def together(monkeypatch):
    """How many videos are made at once, and `error`, which says what a batch of so many raises."""
    made = generated.videos_of

    class Seen(list):
        error = staticmethod(lambda count: None)

    seen = Seen()

    def counted(backbone, drafts):
        seen.append(len(drafts))
        if error := seen.error(len(drafts)):
            raise error
        return made(backbone, drafts)

    monkeypatch.setattr(generated, "videos_of", counted)
    return seen


def shown(folder):
    return {file.name: read_video(file).frames for file in folder.iterdir() if file.suffix}


def assert_same(folder, other):
    """Raise AssertionError unless both hold the same videos. In a batch products are added in
    another order: a value that is rounded to a level then may be rounded to its neighbour.
    """
    one, two = shown(folder), shown(other)
    assert one.keys() == two.keys()
    for name, frames in one.items():
        assert (frames.float() - two[name].float()).abs().mean() < 0.1, name


@pytest.fixture(scope="module")
def alone(bank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    words = arguments("predict", bank, prompts=folder / "prompts.txt")
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert ditflow(monkeypatch, *words, "--out", str(folder / "videos"), *QUICK) == 0
    return folder / "videos"


def test_videos_do_not_depend_on_batches(run, predict, alone, together, tmp_path):
    """Two of a field and six of optimised entries, which differ in their own steps. Each says how
    it was made.
    """
    assert run(*predict("videos", batch_size=4))[0] == 0 and together == [2, 4, 2]
    assert_same(tmp_path / "videos", alone)
    told = [read_provenance(file) for file in (tmp_path / "videos").glob("*.mp4")]
    made = sorted((made.entry, made.prompt) for made in told)
    assert made == sorted((name, said) for name in (*NAMES, "field") for said in PROMPTS)


def test_the_batch_size_may_be_measured(run, predict, alone, tmp_path):
    code, said, _ = run(*predict("videos", batch_size="auto"))
    assert code == 0 and said.count("Batches of ") == 1
    assert_same(tmp_path / "videos", alone)


def test_a_damaged_entry_takes_nothing_with_it(run, bank, predict, alone, together, tmp_path):
    shutil.copytree(bank, tmp_path / "bank")
    entry = tmp_path / "bank" / "entries" / "left.safetensors"
    entry.write_bytes(entry.read_bytes()[:-9])
    code, _, err = run(*predict("videos", 9, tmp_path / "bank"))
    assert code == 1 and "entry 'left' is truncated" in err
    left = [name for name in shown(alone) if name.startswith("left-")]
    assert len(left) == 2
    assert shown(alone).keys() - shown(tmp_path / "videos").keys() == set(left)


def test_a_batch_that_fails_is_made_in_halves(run, predict, alone, together, tmp_path):
    together.error = lambda count: torch.OutOfMemoryError("too much") if count > 2 else None
    code, said, _ = run(*predict("videos", batch_size=4))
    assert code == 0 and "failed together and will be tried in halves: too much" in said
    assert together == [2, 4, 2, 2, 2]
    assert_same(tmp_path / "videos", alone)


def test_what_fails_alone_is_told_and_the_rest_is_made(run, predict, alone, together, tmp_path):
    failures = iter([True, True])
    together.error = lambda count: ValueError("no") if next(failures, False) else None
    code, _, err = run(*predict("videos", batch_size=4))
    assert code == 1 and together == [2, 1, 1, 4, 2] and err.count("failed: no") == 1
    assert len(shown(tmp_path / "videos")) == len(shown(alone)) - 1


def test_a_killed_run_goes_on_and_ranks_share_batches(predict, alone, tmp_path):
    """Killed in its second batch, it has lost no more than that; then two ranks make the rest."""

    def dies(rank: int) -> None:
        made, count = generated.videos_of, iter(range(9))

        def second_dies(*rest):
            if next(count):
                os._exit(9)
            return made(*rest)

        generated.videos_of = second_dies

    words = predict("videos", batch_size=2)
    assert Ranks(words, 1, tmp_path / "log", first=dies).wait() == [9]
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "videos").glob("*.mp4")}
    assert len(kept) == 2
    ranks = Ranks(words, 2, tmp_path / "again")
    assert ranks.wait() == [0, 0], ranks.log.read_text()
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())
    assert_same(tmp_path / "videos", alone)
