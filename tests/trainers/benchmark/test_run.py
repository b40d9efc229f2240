"""`ditflow test` on a tiny random backbone and a small DAVIS folder: what it writes, that it goes
on, that processes can share it, and what it refuses.
"""

from __future__ import annotations

import csv
import json
import mmap
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ditflow.bank import MotionBank
from tests.clips import ditflow, hashes
from tests.davis import PROMPTS, write_davis, write_prompts
from tests.registry import tiny_folder
from trainers.benchmark.machine import forget_peak_memory, peak_memory
from trainers.benchmark.options import shared_options
from trainers.benchmark.process import run_ditflow

SETUPS = {"latents": "latents", "positions": "rotary_positions"}
METHODS = ("latents", "positions", "positions-zero-shot")
CLIPS, KINDS = ("cat-walk", "dog"), ("caption", "subject", "scene")
METRICS = ["motion_cosine", "motion_fidelity", "diversity"]


def places(kinds=KINDS):
    return {f"{clip}--{kind}" for clip in CLIPS for kind in kinds}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Of a benchmark on two clips, three prompts and three methods, one of them zero-shot."""
    folder = tmp_path_factory.mktemp("words")
    root, prompts = write_davis(folder, CLIPS)
    for name, variable in SETUPS.items():
        (folder / f"{name}.yaml").write_text(f"model: {{variable: {variable}}}\n")
    config = {
        "data": {
            "class_path": "DavisBenchmark",
            "init_args": {"davis_root": str(root), "prompts": str(prompts), "size": [32, 48]},
        },
        "setups": [str(folder / f"{name}.yaml") for name in SETUPS],
        "zero_shot": [str(folder / "positions.yaml")],
        "baseline": "latents",
        "model": {
            "backbone": str(tiny_folder("rotary")),
            "dtype": "float32",
            "steps": 2,
            "window": 0.5,
            "inner_steps": 2,
        },
        "trainer": {"enable_progress_bar": False},
        "metrics": {"names": METRICS},
        "batch_size": 3,
    }
    (folder / "benchmark.yaml").write_text(json.dumps(config))
    return ["test", "--config", str(folder / "benchmark.yaml")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the command here, also what it would start in processes of their own; gives the exit
    code and the commands started.
    """

    def run(*words: str, break_at: int | None = None) -> tuple[int, list[str]]:
        started: list[str] = []

        with pytest.MonkeyPatch.context() as monkeypatch:

            def start(words: list[str]) -> int:
                if len(started) == break_at:
                    raise SystemExit(143)
                started.append(words[0])
                return ditflow(monkeypatch, *words)

            monkeypatch.setattr("trainers.benchmark.run.run_ditflow", start)
            return ditflow(monkeypatch, *words), started

    return run


@pytest.fixture(scope="module")
def whole(run, words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run(*words, "--out", str(folder)) == (0, ["fit", "fit", "predict"])
    return folder


def results(folder: Path) -> dict[tuple[str, str], dict]:
    return {
        (file.parent.name, file.stem): json.loads(file.read_text())
        for file in (folder / "results").glob("*/*.json")
    }


def comparable(folder: Path) -> dict[tuple[str, str], dict]:
    """Results without what differs between runs. Of noisy videos metrics do, too: a VAE's
    convolution may differ in its last bit, and the codec enlarges it. An entry tells how long it
    took, in more or fewer digits."""
    changing = ("seconds", "peak_memory_bytes", "entry_bytes", "machine", "metrics", "details")
    return {
        place: {key: value for key, value in result.items() if key not in changing}
        for place, result in results(folder).items()
    }


def apart(first: Path, second: Path) -> float:
    """Mean difference of two videos' colours, of 255."""
    from ditflow import read_video

    return float((read_video(first).frames.float() - read_video(second).frames).abs().mean())


def test_every_method_has_its_videos(whole):
    assert {place for place, _ in results(whole)} == set(METHODS)
    for method in METHODS:
        kinds = KINDS[1:] if method.endswith("zero-shot") else KINDS
        for suffix in (".json", ".mp4", ".safetensors"):
            assert {
                file.stem for file in (whole / "results" / method).glob(f"*{suffix}")
            } == places(kinds)
    assert sorted(MotionBank(whole / "banks" / "positions")) == sorted(places())


def test_a_result_says_all_that_is_known(whole):
    result = results(whole)["positions", "dog--scene"]
    assert (result["method"], result["clip"], result["kind"], result["prompt"], result["seed"]) == (
        "positions",
        "dog",
        "scene",
        PROMPTS["hard"],
        0,
    )
    assert (result["video"], result["flow"], result["error"], result["zero_shot_from"]) == (
        "dog--scene.mp4",
        "dog--scene.safetensors",
        None,
        None,
    )
    assert (
        result["entry_bytes"]
        == (whole / "banks/positions/entries/dog--scene.safetensors").stat().st_size
    )
    assert (
        result["seconds"] > 0
        and result["peak_memory_bytes"] > 10**8
        and 4 < result["forward_equivalents"] < 20
    )
    assert [len(step) for step in result["losses"]] == [2]
    assert " threads, torch 2." in result["machine"].replace("1 thread,", "1 threads,") and result[
        "machine"
    ].endswith("batches of 3")
    assert result["instruments"] == {
        "motion_cosine": "optical flow",
        "motion_fidelity": "lucas-kanade",
        "diversity": "CLIP tiny-clip",
    }
    assert (
        result["details"]["motion_fidelity"]["undefined_steps"] >= 0
        and result["details"]["diversity"]["videos"] == 3
    )
    assert set(result["metrics"]) == set(METRICS) and all(
        -1 <= value <= 2 for value in result["metrics"].values()
    )
    assert load_file(whole / "results/positions/dog--scene.safetensors")["flow"].shape == (
        2,
        2,
        4,
        6,
    )
    assert load_file(whole / "references/dog.safetensors")["flow"].shape == (2, 2, 4, 6)


def test_zero_shot_is_an_entry_with_another_prompt(whole):
    from ditflow import inject_motion, load_backbone, write_video

    result = results(whole)["positions-zero-shot", "dog--scene"]
    assert (
        result["zero_shot_from"],
        result["prompt"],
        result["forward_equivalents"],
        result["losses"],
    ) == ("caption", PROMPTS["hard"], 4.0, [])
    entry = MotionBank(whole / "banks/positions")["dog--caption"]
    assert (entry.metadata.prompt, result["entry_bytes"]) == (
        PROMPTS["easy"],
        (whole / "banks/positions/entries/dog--caption.safetensors").stat().st_size,
    )
    write_video(
        whole / "wanted.mp4",
        inject_motion(load_backbone(str(tiny_folder("rotary"))), entry, PROMPTS["hard"], seed=0),
        8.0,
    )
    assert apart(whole / "wanted.mp4", whole / "results/positions-zero-shot/dog--scene.mp4") < 1
    assert apart(whole / "wanted.mp4", whole / "results/positions-zero-shot/dog--subject.mp4") > 2


def test_metrics_are_those_of_the_library(whole):
    from ditflow import read_video
    from ditflow.metrics import Sample, make_metrics

    reference, video = (
        read_video(whole / file).frames
        for file in ("references/dog.mp4", "results/latents/dog--scene.mp4")
    )
    for name, metric in make_metrics(METRICS[:2]).items():
        assert results(whole)["latents", "dog--scene"]["metrics"][name] == metric.score(
            Sample(reference, video, PROMPTS["hard"], "dog")
        )


@pytest.mark.parametrize(
    ("method", "caption"), [("positions", "positions"), ("positions-zero-shot", "positions")]
)
def test_diversity_is_over_the_same_prompts_for_every_method(whole, method, caption):
    """Also of an entry that serves other prompts: with fewer videos it would be another number, not
    one to compare.
    """
    from ditflow import read_video
    from ditflow.metrics import diversity, load_clip

    videos = [
        read_video(
            whole / "results" / (caption if kind == "caption" else method) / f"dog--{kind}.mp4"
        ).frames
        for kind in KINDS
    ]
    assert results(whole)[method, "dog--scene"]["metrics"]["diversity"] == pytest.approx(
        diversity(load_clip(), videos), abs=1e-6
    )


def test_the_memory_of_the_process_that_starts_another_does_not_count():
    code = "from trainers.benchmark.machine import peak_memory; print(peak_memory())"
    large = (
        "import subprocess, sys; b'x' * 2**30; "
        f"subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    )
    assert (
        10**7
        < int(subprocess.run([sys.executable, "-c", large], check=True, capture_output=True).stdout)
        < 2**30
    )


def test_metrics_of_another_command_stay(run, words, whole, tmp_path):
    copied = shutil.copytree(whole, tmp_path / "run")
    assert run(*words, "--out", str(copied), "--metrics.names", '["motion_fidelity_speed"]') == (
        0,
        [],
    )
    for place, result in results(copied).items():
        assert result["metrics"].keys() == {*METRICS, "motion_fidelity_speed"}
        assert {name: result["metrics"][name] for name in METRICS} == results(whole)[place][
            "metrics"
        ]


def test_run_json_says_what_was_compared(whole):
    run = json.loads((whole / "run.json").read_text())
    assert (run["schema"], run["size"], run["grid"], run["clips"], run["prompt_kinds"]) == (
        1,
        [9, 32, 48],
        [3, 4, 6],
        list(CLIPS),
        list(KINDS),
    )
    assert [(row["name"], row["variable"], row["zero_shot"]) for row in run["methods"]] == [
        ("latents", "latents", False),
        ("positions", "rotary_positions", False),
        ("positions-zero-shot", "rotary_positions", True),
    ]
    assert (run["baseline"], run["tracker"], [row["name"] for row in run["metrics"]]) == (
        "latents",
        "lucas-kanade",
        METRICS,
    )


def test_setups_may_make_fewer_kinds_of_prompts_than_the_zero_shot_methods():
    from trainers.benchmark.methods import methods_of

    methods = methods_of(["backbone", "smm"], ["smm"], "caption", ["caption"])
    assert [(method.name, method.kinds(KINDS)) for method in methods] == [
        ("backbone", ["caption"]),
        ("smm", ["caption"]),
        ("smm-zero-shot", ["subject", "scene"]),
    ]


def test_what_optimises_nothing_has_no_variable():
    from ditflow.models import sketch_backbone
    from trainers.benchmark.methods import methods_of

    spec = sketch_backbone("tiny-rope").spec
    assert [
        method.described(spec, KINDS)["variable"]
        for method in methods_of(["injection", "smm"], [], "caption")
    ] == [None, "latents"]


def test_tables_hold_the_means_of_the_results(whole):
    rows = list(csv.DictReader((whole / "table.csv").open()))
    values = [
        result["metrics"]["motion_cosine"]
        for (method, _), result in results(whole).items()
        if method == "latents"
    ]
    (row,) = [
        row
        for row in rows
        if (row["method"], row["kind"], row["column"]) == ("latents", "all", "motion_cosine")
    ]
    assert float(row["mean"]) == pytest.approx(sum(values) / 6, abs=1e-12) and row["clips"] == "2"
    assert len(list(csv.DictReader((whole / "rows.csv").open()))) == 16
    text = (whole / "table.md").read_text()
    assert (
        "| positions, zero-shot |" in text
        and "| positions-zero-shot | positions |" in text
        and "Prompts: scene" in text
    )
    assert (whole / "table.tex").read_text().count(r"\\") == 8


def test_what_is_there_is_kept(run, words, whole, monkeypatch):
    monkeypatch.setattr("trainers.benchmark.measures.read_video", None)  # nothing is measured again
    before = {file: file.stat().st_mtime_ns for file in (whole / "results").rglob("*")}
    assert run(*words, "--out", str(whole)) == (0, [])
    assert {file: file.stat().st_mtime_ns for file in (whole / "results").rglob("*")} == before


def test_stopped_runs_and_runs_of_some_methods_come_to_the_same(run, words, whole, tmp_path):
    """First one method alone, then a run stopped in the second, then one that lost a video and a
    measurement, and a metric more: all as in one go.
    """
    out = ["--out", str(tmp_path / "run")]
    assert run(*words, *out, "--metrics.names", '["motion_cosine"]', "--methods", "latents") == (
        0,
        ["fit"],
    )
    assert [method for method, _ in results(tmp_path / "run")] == [
        "latents"
    ] * 6 and "positions" not in (tmp_path / "run/table.md").read_text()
    assert run(*words, *out, break_at=0) == (143, [])
    assert run(*words, *out, "--methods", "positions", "positions-zero-shot") == (
        0,
        ["fit", "predict"],
    )
    for method in ("latents", "positions-zero-shot"):
        (tmp_path / "run/results" / method / "dog--scene.mp4").unlink()
    (tmp_path / "run/results/positions/dog--scene.json").unlink()
    assert run(*words, *out) == (0, ["fit", "predict"])
    assert comparable(tmp_path / "run") == comparable(whole)
    for method, name in results(whole):
        assert (
            apart(
                *(
                    folder / "results" / method / f"{name}.mp4"
                    for folder in (whole, tmp_path / "run")
                )
            )
            < 1
        )
        assert set(results(tmp_path / "run")[method, name]["metrics"]) == set(METRICS)
    assert hashes(tmp_path / "run/banks/positions") == hashes(whole / "banks/positions")


def test_zero_shot_waits_for_its_entries(run, words, tmp_path, capfd):
    assert run(*words, "--out", str(tmp_path / "run"), "--methods", "positions-zero-shot") == (
        1,
        [],
    )
    assert (
        "positions-zero-shot has no entries to inject. Make those of positions first."
        in capfd.readouterr().err
    )


def test_a_failing_clip_does_not_lose_the_others(run, words, tmp_path, capfd):
    """One clip has a picture that is damaged, one cannot be optimised, one is well."""
    root, prompts = write_davis(tmp_path, ("broken", "nan", "well"))
    (root / "JPEGImages/480p/broken/00005.jpg").write_bytes(b"no picture")
    command = [
        *words,
        "--out",
        str(tmp_path / "run"),
        "--data.davis_root",
        str(root),
        "--data.prompts",
        str(prompts),
        "--methods",
        "latents",
    ]
    with pytest.MonkeyPatch.context() as monkeypatch:
        from ditflow.sampling.reference import reference_motion

        def fails(backbone, signal, latents, text, names, **options):
            if any(name.startswith("nan") for name in names):
                raise RuntimeError("the clip is cursed")
            return reference_motion(backbone, signal, latents, text, names, **options)

        monkeypatch.setattr("ditflow.sampling.recipe.reference_motion", fails)
        code, _ = run(*command)
    assert code == 1
    said = capfd.readouterr().err
    assert (
        "clip 'broken' is left out:" in said
        and "00005.jpg is not a picture that can be decoded" in said
    )
    found = results(tmp_path / "run")
    assert {name for _, name in found if found["latents", name]["video"]} == {
        f"well--{kind}" for kind in KINDS
    }
    assert (
        found["latents", "nan--scene"]["error"] == "the clip is cursed"
        and found["latents", "nan--scene"]["metrics"] == {}
    )
    assert all(
        "00005.jpg is not a picture" in found["latents", f"broken--{kind}"]["error"]
        for kind in KINDS
    )
    assert "| latents | " in (tmp_path / "run/table.md").read_text()


def test_a_video_that_cannot_be_read_does_not_lose_the_others(run, words, whole, tmp_path, capfd):
    copied = shutil.copytree(whole, tmp_path / "run")
    (copied / "results/latents/dog--scene.mp4").write_bytes(b"no video")
    (copied / "results/latents/dog--scene.json").unlink()
    assert run(*words, "--out", str(copied))[1] == []
    assert "latents/dog--scene lacks a number: " in capfd.readouterr().err
    found = results(copied)
    assert (
        "Remove the file" in found["latents", "dog--scene"]["error"]
        and found["latents", "dog--scene"]["metrics"] == {}
    )
    assert (
        set(found["latents", "dog--subject"]["metrics"]) == set(METRICS)
        and "| latents | 2 |" in (copied / "table.md").read_text()
    )
    (copied / "results/latents/dog--scene.mp4").unlink()
    assert run(*words, "--out", str(copied)) == (0, ["fit"])
    assert results(copied)["latents", "dog--scene"]["error"] is None


def test_videos_of_other_weights_are_not_mixed_in(run, words, whole, tmp_path, capfd):
    copied, backbone = (
        shutil.copytree(whole, tmp_path / "run"),
        shutil.copytree(tiny_folder("rotary"), tmp_path / "backbone"),
    )
    about = json.loads((copied / "run.json").read_text())
    about |= {"backbone": str(backbone), "model": about["model"] | {"backbone": str(backbone)}}
    about["weights"][str(backbone)] = about["weights"].pop(str(tiny_folder("rotary")))
    (copied / "run.json").write_text(json.dumps(about))
    command = [*words, "--out", str(copied), "--model.backbone", str(backbone)]
    assert run(*command) == (0, [])
    weights = backbone / "vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert run(*command) == (2, [])
    assert "holds a benchmark with weights" in capfd.readouterr().err


@pytest.mark.parametrize(("kill", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_method_that_is_killed_does_not_end_the_others_and_one_that_is_stopped_does(
    monkeypatch, capfd, kill, code
):
    start, dies = subprocess.Popen, f"import os; os.kill(os.getpid(), {int(kill)})"
    monkeypatch.setattr(
        "trainers.benchmark.process.subprocess.Popen",
        lambda words: start([sys.executable, "-c", dies]),
    )
    if code < 0:
        assert run_ditflow(["fit"]) == code
        assert "fit was killed by signal 9" in capfd.readouterr().err
    else:
        with pytest.raises(SystemExit, match=str(code)):
            run_ditflow(["fit"])


def test_what_a_method_is_made_with_is_a_real_command(capfd):
    assert run_ditflow(["--version"]) == 0
    assert capfd.readouterr().out.startswith("ditflow ")


def test_the_most_memory_is_that_of_one_batch():
    forget_peak_memory()
    large = mmap.mmap(-1, 2**28)  # closed, it is given back, which an allocator need not do
    for page in range(0, 2**28, mmap.PAGESIZE):
        large[page] = 1  # the system gives a page on touch alone
    assert peak_memory() > 2**28
    before = peak_memory()
    large.close()
    forget_peak_memory()
    assert peak_memory() < before - 2**27


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--setups", '["moonwalk"]'], "unknown setup 'moonwalk': give one of"),
        (
            ["--methods", "moonwalk"],
            "there is no method 'moonwalk': this benchmark has latents, positions, "
            "positions-zero-shot.",
        ),
        (["--baseline", "moonwalk"], "there is no method 'moonwalk'"),
        (["--zero_shot", '["smm"]'], "zero_shot names smm, which setups does not"),
        (
            ["--zero_shot_from", "moon"],
            "zero_shot_from is 'moon': give a kind of prompt, caption, subject, scene.",
        ),
        (["--setup_kinds", '["moon"]'], "setup_kinds is 'moon': give a kind of prompt, caption"),
        (["--metrics.names", '["moon"]'], "unknown metric 'moon'"),
        (["--metrics.tracker", "moon"], "tracker 'moon'"),
        (
            ["--metrics.names", '["prompt_fidelity"]', "--metrics.clip", "no/such/folder"],
            "there is no CLIP 'no/such/folder' to be used",
        ),
        (["--data.davis_root", "nowhere"], "Download DAVIS 2017"),
        (["--data.names", '["bird"]'], "has no clip bird"),
        (["--data.size", "[30,48]"], "does not divide into tokens"),
        (["--model.backbone", "no-such"], "'no-such'"),
        (["--batch_size", "many"], "--batch_size cannot be 'many'"),
        (["--moon", "1"], "--moon"),
        (["--model.moon", "1"], "method 'latents' cannot run: "),
        (["--model.inner_steps", "many"], "--model.inner_steps cannot be 'many'"),
        (["--model.block", "99"], "method 'latents' cannot run: there is no block 99"),
        (["--trainer.moon", "1"], "method 'latents' cannot run: "),
        (["--out", "not-empty"], "not-empty is no folder of a benchmark, and not empty"),
        (["--data.davis_root", "~nobody-of-that-name"], "~nobody-of-that-name"),
    ],
)
def test_a_mistake_is_one_sentence(run, words, tmp_path, monkeypatch, capfd, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "not-empty").mkdir()
    (tmp_path / "not-empty" / "thesis.txt").touch()
    assert run(*words, "--out", "run", *options) == (2, [])
    errors = capfd.readouterr().err
    assert said in errors and "Traceback" not in errors and errors.count("ditflow: ") == 1, errors
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run" / "results").iterdir())


def test_a_one_frame_video_holds_no_motion(run, words, tmp_path, capfd):
    row = {**PROMPTS, "frame_range": [0, 1, 1]}
    assert run(
        *words,
        "--out",
        str(tmp_path / "run"),
        "--data.prompts",
        str(write_prompts(tmp_path, {"dog": row})),
    ) == (2, [])
    assert "holds no motion" in capfd.readouterr().err


def test_another_benchmark_is_not_mixed_in(run, words, whole, capfd):
    assert run(*words, "--out", str(whole), "--model.steps", "4") == (2, [])
    assert "holds a benchmark with --model.steps 2 instead of 4. Give the" in capfd.readouterr().err


def test_dtypes_are_not_mixed_in_a_folder(run, words, whole, capfd):
    assert run(*words, "--out", str(whole), "--model.dtype", "bfloat16") == (2, [])
    said = "holds a benchmark with --model.dtype 'float32' instead of 'bfloat16'. Give the"
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("native", [torch.float32, torch.bfloat16])
def test_the_dtype_is_named_before_the_work(native, monkeypatch):
    """What the device computes natively, unless it is given; null is not given."""
    monkeypatch.setattr("trainers.benchmark.options.native_dtype", lambda device: native)
    name = str(native).removeprefix("torch.")
    for model in ({}, {"dtype": None}):
        assert shared_options(model, {}) == {"backbone": "tiny-rope", "dtype": name}
    assert shared_options({"dtype": "float16", "steps": 2}, {})["dtype"] == "float16"


@pytest.mark.parametrize(
    "name", ["synthetic", "synthetic-sincos", "davis", "smoke", "ablation", "demo"]
)
def test_every_configuration_that_ships_is_understood(name, tmp_path, monkeypatch):
    """Everything but the work: names of setups, of methods, of settings, and the clips."""
    from trainers.benchmark.run import Benchmark

    root, prompts = write_davis(tmp_path, CLIPS)
    words = (
        ["--data.davis_root", str(root), "--data.prompts", str(prompts)] if name == "davis" else []
    )
    monkeypatch.setattr("trainers.benchmark.ablation.draw", lambda *_: None)
    ran = []
    monkeypatch.setattr(Benchmark, "run", lambda self, chosen: ran.append((self, chosen)) or 0)
    command = "ablate" if name == "ablation" else "test"
    assert (
        ditflow(
            monkeypatch,
            command,
            "--config",
            f"configs/benchmarks/{name}.yaml",
            "--out",
            str(tmp_path / "run"),
            *words,
        )
        == 0
    )
    ((benchmark, chosen),) = ran
    assert (
        list(chosen) == list(benchmark.methods)
        and len({method.name for method in chosen}) == len(chosen) > 2
    )
    clips = {"davis": 2, "smoke": 2, "ablation": 8, "demo": 6}
    assert len(benchmark.data.clips()) == clips.get(name, 24)
