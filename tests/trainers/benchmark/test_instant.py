"""A benchmark's instant methods: a bank of fields, one for each clip, and videos from it that cost
no more than plain ones.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ditflow.bank import MotionBank
from tests.clips import ditflow
from tests.registry import tiny_folder

KINDS = {"prompt-1", "prompt-2"}
STEPS = 2


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """Of a benchmark of plain and instant videos on two synthetic clips; plain ones of one kind of
    prompt only.
    """
    folder = tmp_path_factory.mktemp("words")
    init = {"clips": 2, "frames": 9, "size": [32, 48], "prompts": 1}
    config = {
        "data": {"class_path": "SyntheticBenchmark", "init_args": init},
        "setups": ["backbone", "instant"],
        "setup_kinds": ["prompt-1"],
        "zero_shot_from": "prompt-1",
        "baseline": "backbone",
        "model": {"backbone": str(tiny_folder("rotary")), "dtype": "float32", "steps": STEPS},
        "trainer": {"enable_progress_bar": False},
        "metrics": {"names": ["motion_cosine"], "flows": False},
    }
    (folder / "benchmark.yaml").write_text(json.dumps(config))
    return ["test", "--config", str(folder / "benchmark.yaml")]


def run(*words: str) -> tuple[int, list[str]]:
    """Run the command here, also what it would start in processes of their own; the exit code and
    the commands started.
    """
    started: list[str] = []
    with pytest.MonkeyPatch.context() as monkeypatch:

        def start(words: list[str]) -> int:
            started.append(words[0])
            return ditflow(monkeypatch, *words)

        monkeypatch.setattr("trainers.benchmark.run.run_ditflow", start)
        return ditflow(monkeypatch, *words), started


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run(*words, "--out", str(folder)) == (0, ["fit", "fit", "predict"])
    return folder


def results(folder: Path, method: str) -> dict[str, dict]:
    files = (folder / "results" / method).glob("*.json")
    return {file.stem: json.loads(file.read_text()) for file in files}


def test_one_field_a_clip_serves_every_prompt(whole):
    clips = json.loads((whole / "run.json").read_text())["clips"]
    assert set(MotionBank(whole / "banks" / "instant")) == set(clips)
    made = results(whole, "instant")
    assert set(made) == {f"{clip}--{kind}" for clip in clips for kind in KINDS}
    assert set(results(whole, "backbone")) == {f"{clip}--prompt-1" for clip in clips}
    for result in made.values():
        assert result["error"] is None and result["metrics"]["motion_cosine"] is not None
        assert result["entry_bytes"] > 0 and result["losses"] == []


def test_it_costs_the_passes_of_a_plain_video_and_the_seconds_of_its_field(whole):
    plain = {row["forward_equivalents"] for row in results(whole, "backbone").values()}
    instant = {row["forward_equivalents"] for row in results(whole, "instant").values()}
    assert plain == instant == {2.0 * STEPS}
    bank = MotionBank(whole / "banks" / "instant")
    for row in results(whole, "instant").values():
        assert row["seconds"] > bank.metadata(row["clip"]).seconds


def test_what_is_there_is_kept(words, whole):
    assert run(*words, "--out", str(whole)) == (0, [])
    next((whole / "results" / "instant").glob("*.mp4")).unlink()
    assert run(*words, "--out", str(whole), "--methods", "instant") == (0, ["fit", "predict"])


def test_a_clip_without_a_field_has_the_reason(words, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise ValueError("nothing moves here.")

    monkeypatch.setattr("trainers.motion.instant.field_entry", refuse)
    code, started = run(*words, "--out", str(tmp_path / "run"), "--methods", "instant")
    assert (code, started) == (1, ["fit"])
    assert {row["error"] for row in results(tmp_path / "run", "instant").values()} == {
        "nothing moves here."
    }


def test_the_source_is_for_the_instant_method_alone(words, tmp_path):
    config = json.loads(Path(words[-1]).read_text())
    config["model"]["source"] = "lucas-kanade"
    (tmp_path / "tracked.yaml").write_text(json.dumps(config))
    out = tmp_path / "run"
    code, _ = run("test", "--config", str(tmp_path / "tracked.yaml"), "--out", str(out))
    bank = MotionBank(out / "banks" / "instant")
    assert (code, {bank.metadata(name).method for name in bank}) == (0, {"lucas-kanade"})
    assert all(row["error"] is None for row in results(out, "backbone").values())


@pytest.mark.parametrize("source", ["other", "raft"])
def test_options_of_fields_are_checked_before_any_work(words, tmp_path, capfd, monkeypatch, source):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    (tmp_path / "odd.yaml").write_text(f"method: instant\nmodel: {{source: {source}}}\n")
    odd = ["--setups", json.dumps([str(tmp_path / "odd.yaml")]), "--baseline", "odd"]
    code, started = run(*words, "--out", str(tmp_path / "run"), *odd)
    assert (code, started) == (2, [])
    assert "method 'odd' cannot run" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()
