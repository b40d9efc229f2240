"""The command as a user runs it: killed and run again, mistakes in one sentence, help at once,
every configuration.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import yaml

from ditflow.bank import MotionBank
from tests.clips import NAMES, arguments, ditflow, hashes
from tests.registry import tiny_folder
from trainers import cli
from trainers.commands.short_help import HELP

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))
SLOW = [
    "--model.steps",
    "8",
    "--model.inner_steps",
    "15",
]  # four guided steps a clip, so slow that a signal arrives in between


def start(*words: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "trainers.cli", *map(str, words)]
    return subprocess.Popen(
        command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def signal_once_there(process: subprocess.Popen[str], folder: Path, number: int) -> tuple[int, str]:
    """Send the signal as soon as a file appears or changes in the folder."""
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*.safetensors")}
    while process.poll() is None and not any(
        before.get(file) != file.stat().st_mtime_ns
        for file in folder.glob("*.safetensors")
        if file.exists()
    ):
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate()
    return process.returncode, errors


def test_killed_stopped_and_run_again(clips, tmp_path, capfd):
    """kill -9 in the first clip, SIGTERM in a later step, then to the end: the same bank as
    without, and nothing to do for the next run.
    """
    bank, words = tmp_path / "bank", [*SLOW, "--data.batch_size", "2"]
    fit = arguments("fit", bank, manifest=clips) + words
    assert (
        signal_once_there(start(*fit, cwd=tmp_path), bank / "inflight", signal.SIGKILL)[0]
        == -signal.SIGKILL
    )
    assert len(MotionBank(bank)) < len(NAMES)
    code, errors = signal_once_there(start(*fit, cwd=tmp_path), bank / "inflight", signal.SIGTERM)
    assert (code, "The same command goes on from here." in errors) == (143, True), errors
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert ditflow(monkeypatch, *fit) == 0
        assert f"3 of 3 done: {bank}" in capfd.readouterr().out
        assert (
            ditflow(monkeypatch, *arguments("fit", tmp_path / "whole", manifest=clips), *SLOW) == 0
        )
    assert hashes(bank) == hashes(tmp_path / "whole")
    assert MotionBank(bank).inflight() == [] and not [
        path for path in tmp_path.iterdir() if path.name not in ("bank", "whole")
    ]


@pytest.fixture
def refused(monkeypatch, tmp_path, capfd):
    """Run a command in an empty folder and give what it says on stderr, one sentence besides the
    reasons of single clips.
    """
    monkeypatch.chdir(tmp_path)

    def refused(*words: object) -> str:
        with monkeypatch.context() as undone:
            code = ditflow(undone, *map(str, words))
        captured = capfd.readouterr()
        sentences = [
            line
            for line in captured.err.splitlines()
            if line.startswith("ditflow: ") and "prompt cut" not in line
        ]
        assert code == 2 and len(sentences) == 1 and "Traceback" not in captured.err, captured.err
        return captured.err

    return refused


def test_clips_are_named_one_way(refused, clips):
    assert "--data.manifest clips.csv or by --data.videos" in refused(*arguments("fit", "bank"))
    assert "--data.manifest clips.csv or by --data.videos" in refused(
        *arguments("fit", "bank", manifest=clips, videos="*.mp4")
    )
    assert "no file matches 'none/*.mp4'" in refused(*arguments("fit", "bank", videos="none/*.mp4"))
    assert not Path("bank").exists(), "what is refused leaves nothing"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "There is no file"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.write_bytes(bytes(range(256)) * 99), "video"),
        (lambda path: shutil.copy(ROOT / "setup.cfg", path), "video"),
    ],
)
def test_a_lone_bad_clip(refused, tmp_path, make, sentence):
    make(tmp_path / "bad.mp4")
    (tmp_path / "bad.csv").write_text("video,prompt\nbad.mp4,a cat\n")
    assert sentence in refused(*arguments("fit", "bank", manifest="bad.csv"))


def test_clips_too_short_say_what_would_fit(refused, clips):
    sentence = refused(*arguments("fit", "bank", manifest=clips), "--data.frames", "16")
    assert "has 11 frames" in sentence and "Use --data.frames 9, or auto" in sentence
    assert (
        f"nothing could be done: {', '.join(NAMES)} failed." in sentence
        and sentence.count("--data.frames 9") == 3
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--trainer.precision", "bf16-true"],
            "choose the backbone's number format by --model.dtype bfloat16",
        ),
        (
            ["--data.size", "[33,48]"],
            "does not divide into tokens: use multiples of 8, such as 32x48",
        ),
        (["--model.block", "4"], "there is no block 4"),
        (["--model.injection_blocks", "[9]"], "there is no block 9"),
        (["--model.window", "0"], "guides none of them"),
        (["--model.window", "[3,9]"], "does not fit 4 steps"),
        (["--model.variable", "sinusoidal"], "needs sinusoidal positions"),
        (["--model.variable", "banana"], "--model.variable cannot be 'banana': give 'latents'"),
        (["--model.signal", "smoke"], "unknown signal 'smoke': it is one of amf"),
        (["--model.dtype", "float99"], "unknown dtype 'float99'"),
        (["--model.steps", "many"], "--model.steps cannot be 'many': give int or nothing (null)"),
        (["--model.stepz", "4"], "unrecognized arguments: --model.stepz"),
        (["--model.step", "4"], "unrecognized arguments: --model.step"),
        (["--model.backbone", "no/such-model"], "there is no backbone 'no/such-model'"),
        (["--model.backbone", "."], "is not a backbone: it has no model_index.json"),
        (["--data.batch_size", "0"], "batch_size is 0"),
        (["--model.fps", "0"], "fps is 0"),
        (["--model.fps", ".inf"], "fps is inf"),
        (["--model.learning_rate", "[0.1,.nan]"], "must be finite and not below 0"),
        (["--model.learning_rate", "[-0.1,0.1]"], "must be finite and not below 0"),
        (["--config", "none.yaml"], "File does not exist"),
        (["--trainer.gradient_clip_val", "1"], "gradient clipping"),
        (["--trainer.logger", "WandbLogger"], "wandb"),
    ],
)
def test_settings_that_cannot_be(refused, clips, options, sentence):
    assert sentence.lower() in refused(*arguments("fit", "bank", manifest=clips), *options).lower()


def test_banks_that_cannot_be(refused, clips, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "prompts.txt").write_text("a dog\n")
    (tmp_path / "gap.txt").write_text("a dog\n\na cat\n")
    (tmp_path / "pairs.csv").write_text("entry,prompt\nnobody,a dog\n")
    assert "--bank is missing" in refused("fit", "--data.manifest", clips)
    assert "a part of that path is a file" in refused(
        *arguments("fit", "file/bank", manifest=clips)
    )
    assert "is not a motion bank" in refused(*arguments("predict", "none", prompts="prompts.txt"))
    assert "is not a motion bank" in refused(*arguments("predict", tmp_path, prompts="prompts.txt"))
    MotionBank(tmp_path / "bank", create=True).mark_failed("car", "it is no clip")
    assert "has no entries" in refused(*arguments("predict", "bank", prompts="prompts.txt"))
    assert "line 2 is blank" in refused(
        *arguments("predict", "bank", prompts="gap.txt", entries="[car]")
    )
    assert "has no entry 'nobody'" in refused(
        *arguments("predict", "bank", prompts="pairs.csv", entries="[nobody]")
    )
    assert "--data.prompts prompts.txt" in refused(*arguments("predict", "bank"))
    assert "--data.seeds: seed must be an integer" in refused(
        *arguments("predict", "bank", prompts="prompts.txt", seeds=f"[0,{1 << 64}]")
    )


def test_entries_of_another_backbone(refused, clips, tmp_path, monkeypatch):
    with monkeypatch.context() as undone:
        assert (
            ditflow(
                undone,
                *arguments("fit", tmp_path / "bank", manifest=clips),
                "--data.batch_size",
                "3",
            )
            == 0
        )
    (tmp_path / "prompts.txt").write_text("a dog\n")
    assert "was optimised on" in refused(
        *arguments("predict", "bank", "sinusoidal", prompts="prompts.txt")
    )
    other = refused(
        *arguments("fit", "bank", manifest=clips), "--model.inner_steps", "3", "--model.steps", "5"
    )
    assert (
        "an entry 'left' that was made with steps 4 instead of 5, inner_steps 2 instead of 3"
        in other
        and "remove entries/left.safetensors" in other
    )


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch, tmp_path, clips):
    monkeypatch.setattr("datamodules.motion_tasks.tasks_of", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ditflow(monkeypatch, *arguments("fit", tmp_path / "bank", manifest=clips))


@pytest.mark.parametrize("how", ["--debug", "DITFLOW_TRACEBACK"])
def test_a_traceback_for_who_asks(monkeypatch, tmp_path, how):
    monkeypatch.setenv("DITFLOW_TRACEBACK", "1" if how == "DITFLOW_TRACEBACK" else "0")
    with pytest.raises(ValueError, match="there is no file"):
        ditflow(
            monkeypatch,
            *arguments("fit", tmp_path / "bank", manifest="none.csv"),
            *(["--debug"] if how == "--debug" else []),
        )


@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_is_parsed_built_and_run(config, monkeypatch, tmp_path, clips, capfd):
    """For fit and predict alike, on a tiny random backbone of the class that the configuration
    names, for the first step of a clip.
    """
    monkeypatch.chdir(tmp_path)
    options = yaml.safe_load((ROOT / "configs" / config).read_text())["model"]
    kind = {
        "tiny-rope": "rotary-ddim",
        "tiny-sincos": "sinusoidal",
        "tiny-wan": "wan",
        "THUDM/CogVideoX-5b": "rotary",
        "THUDM/CogVideoX-2b": "sinusoidal",
    }[options.get("backbone", "tiny-rope")]
    small = [
        "--model.steps",
        "5",
        "--model.block",
        "2",
        "--model.dtype",
        "float32",
        "--data.frames",
        "9",
        "--data.size",
        "[32,48]",
    ]
    words = [
        "--config",
        f"configs/{config}",
        "--model.backbone",
        str(tiny_folder(kind)),
        "--bank",
        "bank",
    ]  # the shipped one: there is none here
    assert (
        ditflow(
            monkeypatch,
            "fit",
            *words,
            "--data.manifest",
            str(clips),
            *small,
            "--trainer.max_steps",
            "1",
        )
        == 1
    )
    assert "left: run the same command again." in capfd.readouterr().err
    assert len(MotionBank("bank")) + len(MotionBank("bank").inflight()) > 0
    assert ditflow(monkeypatch, "predict", *words, "--print_config") == 0
    printed = yaml.safe_load(capfd.readouterr().out)
    assert printed["model"] | {"backbone": ""} == printed["model"] | options | {"backbone": ""}


def test_configurations_merge(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("one.yaml", "bank: first\nmodel: {steps: 9, block: 1}\n"),
        ("two.yaml", "model: {steps: 8}\n"),
    ):
        (tmp_path / name).write_text(text)
    assert (
        ditflow(
            monkeypatch,
            "fit",
            "--config",
            "one.yaml",
            "--config",
            "two.yaml",
            "--model.window",
            "0.3",
            "--print_config",
        )
        == 0
    )
    printed = yaml.safe_load(capfd.readouterr().out)
    assert (
        printed["bank"],
        printed["model"]["steps"],
        printed["model"]["block"],
        printed["model"]["window"],
    ) == ("first", 8, 1, 0.3)


def test_a_configuration_that_is_here_comes_before_the_shipped_one(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "smoke.yaml").write_text("model: {steps: 77}\n")
    for given in (
        ["--config", "configs/smoke.yaml"],
        ["--config=configs/smoke.yaml"],
        ["-c", "configs/smoke.yaml"],
    ):
        assert ditflow(monkeypatch, "fit", *given, "--bank", "bank", "--print_config") == 0
        assert yaml.safe_load(capfd.readouterr().out)["model"]["steps"] == 77


def fastest(*words: str, cwd: Path, **environment: str) -> tuple[float, str]:
    """Processor seconds, the least of three runs: other work on the machine adds to those of the
    clock.
    """
    runs = []
    for _ in range(3):
        before = os.times()
        process = start(*words, cwd=cwd, **environment)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        after = os.times()
        runs.append(
            (
                after.children_user
                + after.children_system
                - before.children_user
                - before.children_system,
                output,
            )
        )
    return min(runs)


@pytest.mark.parametrize("command", ["", *HELP, "bank", "video", "report", "demo"])
def test_help_answers_at_once(tmp_path, command):
    """The bound is for an idle machine; this one may be half as fast."""
    seconds, text = fastest(*command.split(), "--help", cwd=tmp_path)
    assert seconds < 0.6 and f"usage: ditflow {command}".strip() in text


def test_short_help_imports_nothing_heavy(tmp_path):
    heavy = "{'torch', 'lightning', 'jsonargparse', 'numpy'} & set(sys.modules)"
    code = f"import sys; from trainers.cli import main; main(['fit', '--help']); print({heavy})"
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "set()", ran.stderr


@pytest.mark.parametrize("command", HELP)
def test_short_help_says_what_the_whole_help_says(monkeypatch, capfd, command):
    """Every option is one of the parser's, and its text begins with the same sentence."""
    monkeypatch.setenv("COLUMNS", "4000")
    assert ditflow(monkeypatch, command, "--help") == 0
    short = capfd.readouterr().out
    assert ditflow(monkeypatch, command, "--help", "all") == 0
    whole = " ".join(capfd.readouterr().out.split())
    shown = re.findall(r"^  --(\S+)\n((?:      .*\n)+)", short, re.MULTILINE)
    assert [name for name, _ in shown] == ["config", *HELP[command].options]
    for name, meaning in shown:
        assert re.search(rf"--{re.escape(name)}[ ,\]]", whole), name
        sentence = " ".join(meaning.split()).partition(". ")[0].rstrip(".")
        assert name == "config" or sentence in whole, name


def test_an_example_of_help_is_a_command_that_is_understood(monkeypatch, tmp_path, capfd):
    for command in ("fit", "predict"):
        words = HELP[command].examples[0].split()[1:]
        assert ditflow(monkeypatch, *words, "--print_config") == 0
        assert yaml.safe_load(capfd.readouterr().out)["bank"] == "bank/"


def test_a_package_of_an_extra_that_is_missing_is_named_with_its_extra():
    """The module is hidden from a process of its own."""
    hide = "import sys; sys.modules['jinja2'] = None"
    code = f"{hide}; from trainers.cli import main; sys.exit(main(['report', 'run']))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (
        2,
        "ditflow: jinja2 is not installed, and this needs it: pip install 'ditflow[report]'.\n",
    )


@pytest.mark.parametrize(("option", "instead"), [("out", "--out"), ("bank", "--bank")])
def test_a_place_has_one_option(refused, clips, option, instead):
    said = refused(*arguments("fit", "bank", manifest=clips), f"--data.{option}", "elsewhere")
    assert said == f"ditflow: --data.{option} is not an option: give {instead} instead.\n"


def test_words_that_are_no_command(monkeypatch, capfd):
    assert ditflow(monkeypatch, "fti") == 2
    known = "fit, predict, test, ablate, motion, bank, video, app, report, demo"
    assert f"ditflow has no command 'fti': it has {known}." in capfd.readouterr().err
    assert ditflow(monkeypatch) == 2
    assert ditflow(monkeypatch, "--version") == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith("ditflow ")


def test_a_warning_of_any_command_is_one_sentence_of_ditflow(monkeypatch, capsys) -> None:
    def bank(_: list[str]) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            monkeypatch.setattr(warnings, "showwarning", shown)
            warnings.warn("the mask is stretched.", stacklevel=1)
        return 0

    def shown(message, category, name, line, file=None, text=None) -> None:
        sys.stderr.write(warnings.formatwarning(message, category, name, line, text))

    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setitem(cli.COMMANDS, "bank", bank)
    assert cli.main(["bank"]) == 0
    assert capsys.readouterr().err == "ditflow: the mask is stretched.\n"
