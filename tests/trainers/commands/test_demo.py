"""The demo: its options become those of a benchmark. tests/test_packaging.py runs it."""

from __future__ import annotations

import pytest
import torch

from datamodules.synthetic import MOTIONS
from trainers.benchmark.run import Benchmark
from trainers.commands import benchmark, report
from trainers.commands.demo import _parser, benchmark_options, main
from trainers.motion import cores

OPTIONS = ["--clips", "8", "--prompts", "3", "--seed", "4", "--steps", "5", "--inner-steps", "2"]


@pytest.fixture
def ran(monkeypatch):
    """The benchmarks that would have run."""
    ran = []
    monkeypatch.setattr(Benchmark, "run", lambda self, chosen: ran.append(self) or 0)
    return ran


@pytest.mark.parametrize(
    ("backbone", "setup"),
    [
        ("tiny-rope", "ditflow-positions"),
        ("tiny-sincos", "ditflow-sinusoidal"),
        ("tiny-wan", "ditflow-positions"),
    ],
)
def test_its_options_are_those_of_a_benchmark(ran, tmp_path, backbone, setup):
    options = _parser().parse_args([*OPTIONS, "--backbone", backbone, "--out", str(tmp_path)])
    assert benchmark.main(["test", *benchmark_options(options)]) == 0
    (run,) = ran
    kinds = {method.name: method.kinds(run.kinds) for method in run.methods}
    new = ["prompt-2", "prompt-3", "prompt-4"]
    first = ["prompt-1"]
    zero_shot = {"instant": [*first, *new], f"{setup}-zero-shot": new}
    assert kinds == {"backbone": first, setup: first, **zero_shot}
    motions = [clip.name.split("-")[0] for clip in run.data.clips()]
    assert motions == [*MOTIONS, MOTIONS[0]] and run.settings.seed == 4
    wanted = {"backbone": backbone, "dtype": "float32", "steps": 5, "inner_steps": 2}
    assert run.settings.model == wanted and run.folder.path == tmp_path


def test_seed_draws_other_prompts(ran):
    for seed in "01":
        options = _parser().parse_args(["--seed", seed])
        benchmark.main(["test", *benchmark_options(options)])
    first, second = ([clip.prompts for clip in run.data.clips()] for run in ran)
    assert first != second and "steps" not in ran[0].settings.model


def test_processes_share_the_clips_without_a_gpu(monkeypatch):
    monkeypatch.setattr(cores, "processes", lambda jobs: min(jobs, 2))
    two, one = (["--trainer.accelerator", "cpu", "--trainer.devices", n] for n in "21")
    for gpu, clips, wanted in ((False, "6", two), (False, "1", one), (True, "6", [])):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        words = benchmark_options(_parser().parse_args(["--clips", clips]))
        assert words[len(words) - 4 :] == wanted or (gpu and "--trainer.devices" not in words)


def test_it_makes_the_page_and_prints_the_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "main", lambda words: 1)
    monkeypatch.setattr(report, "main", lambda words: print("page of", *words) or 0)
    text = (
        "Made.\n\n## All prompts\n\n| method | Motion |\n| --- | --- |\n| smm | .5 |\n\n## Other\n"
    )
    (tmp_path / "table.md").write_text(text)
    assert main(["--out", str(tmp_path)]) == 1  # as of the benchmark
    said = capsys.readouterr().out
    assert f"page of {tmp_path}" in said and "smm" in said and "Other" not in said


@pytest.mark.parametrize(
    "arguments", [["--clips", "0"], ["--clips", "x"], ["--prompts", "7"], ["--backbone", "other"]]
)
def test_options_that_cannot_be_are_refused(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2 and list(tmp_path.iterdir()) == []
