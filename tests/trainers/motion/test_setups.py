"""Every setup that ships: it builds on the backbones that it is for, runs, and says what it costs;
what makes no sense is refused in a sentence.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ditflow.bank import MotionBank
from ditflow.models import load_backbone
from ditflow.sampling import recipe as recipes
from ditflow.sampling.recipe import Choices
from tests.clips import SMALL, arguments, ditflow, write_clips
from tests.registry import tiny_backbone, tiny_folder
from trainers.motion.optimization import MotionOptimization

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
FILES = sorted((CONFIGS / "setups").glob("*.yaml"))
INSTANT = {"instant"}  # which tests/trainers/motion/test_instant.py runs
SETUPS = {file.stem: file for file in FILES if file.stem not in INSTANT}
PUBLISHED = {
    "cogvideox-5b": ({"position": "rotary", "blocks": 42, "heads": 48, "head_dim": 64}, 20),
    "cogvideox-2b": ({"position": "sinusoidal", "blocks": 30, "heads": 30, "head_dim": 64}, 15),
}  # sizes, and the guided block
RATES = {"adam": (0.002, 0.001), "sgd": (5, 5), "score": (1.4e5, 1.4e5)}
WITHOUT_ENTRIES = {"backbone", "injection"}
NAMES = ("a",)


def options_of(setup: str, backbone: str = "tiny-rope") -> dict[str, Any]:
    """The options of the model, as the command line merges the setup onto a backbone's file."""
    given = {
        key: value
        for file in (CONFIGS / f"{backbone}.yaml", SETUPS[setup])
        for key, value in yaml.safe_load(file.read_text())["model"].items()
    }
    return {"variable": None, "signal": "amf", "update": "adam"} | given


def choices_of(setup: str, backbone: str = "tiny-rope") -> Choices:
    return MotionOptimization(**options_of(setup, backbone) | {"finish": True}).choices


embedded = cache(load_backbone)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    manifest = write_clips(tmp_path_factory.mktemp("clips"), NAMES)
    manifest.write_text("video,prompt,caption\na.mp4,a cat dance,the dog running\n")
    return manifest


@pytest.fixture
def fit(monkeypatch, tmp_path, capfd):
    """Run `fit` on a tiny random backbone and give its exit code and what it said."""

    def fit(clips: Path, kind: str, *words: str) -> tuple[int, str]:
        backbone = ["--model.backbone", str(tiny_folder(kind)), "--model.steps", "2", *SMALL]
        code = ditflow(
            monkeypatch,
            "fit",
            "--model.window",
            "0.5",
            *words,
            *backbone,
            "--bank",
            str(tmp_path / "bank"),
            "--data.manifest",
            str(clips),
        )
        said = capfd.readouterr()
        return code, said.out + said.err

    return fit


@pytest.mark.parametrize("setup", SETUPS)
def test_it_runs_and_makes_its_entry_or_its_video(fit, clips, tmp_path, setup):
    kind = "sinusoidal" if setup == "ditflow-sinusoidal" else "rotary"
    code, said = fit(clips, kind, "--config", str(SETUPS[setup]))
    assert code == 0 and "1 of 1 done" in said, said
    entries = dict(MotionBank(tmp_path / "bank"))
    assert set(entries) == (set() if setup in WITHOUT_ENTRIES else {"a"})
    assert (tmp_path / "bank" / "videos" / "a.mp4").exists() == (setup in WITHOUT_ENTRIES)
    assert MotionBank(tmp_path / "bank").inflight() == []
    if entries:
        metadata, wanted = entries["a"].metadata, options_of(setup)
        assert metadata.update == wanted["update"] and metadata.signal["name"] == wanted["signal"]
        assert wanted.get("signal_arguments", {}).items() <= metadata.signal.items()
        assert metadata.caption == ("the dog running" if wanted["signal"] == "motionflow" else "")


@pytest.mark.parametrize("setup", sorted(WITHOUT_ENTRIES))
def test_a_video_without_an_entry_is_made_once(fit, clips, tmp_path, setup):
    words = ("--config", str(SETUPS[setup]))
    assert fit(clips, "rotary", *words)[0] == 0
    video = tmp_path / "bank" / "videos" / "a.mp4"
    before = video.stat().st_mtime_ns
    code, said = fit(clips, "rotary", *words)
    assert (code, video.stat().st_mtime_ns) == (0, before) and "1 of 1 done" in said
    assert (
        "keys and values of the clip" if setup == "injection" else "nothing of the clip"
    ) in said


@pytest.mark.parametrize("setup", sorted(WITHOUT_ENTRIES))
def test_a_video_without_an_entry_counts_as_done(fit, clips, tmp_path, monkeypatch, setup):
    """In the summary, in the bank's list of what was asked for, and where the clip has failed
    before, however often.
    """
    words, bank = (
        ("--config", str(SETUPS[setup]), "--data.attempts", "1"),
        MotionBank(tmp_path / "bank", create=True),
    )
    for name in ("a", "b"):
        bank.mark_failed(name, "the memory of another process")
    assert fit(clips, "rotary", *words)[0] == 2 and bank.failures().keys() == {"a", "b"}, "given up"
    code, said = fit(clips, "rotary", *words, "--data.attempts", "2")
    assert code == 0 and "1 of 1 clips done, 1 of them now" in said, said
    assert (bank.failures().keys(), bank.requests.names()) == ({"b"}, set())
    bank.mark_failed("a", "killed before it forgot")
    code, said = fit(clips, "rotary", *words)
    assert code == 0 and "1 of 1 clips done" in said and "now" not in said, said


def test_videos_without_entries_of_which_one_fails_leave_nothing_to_watch_for(fit, tmp_path):
    manifest = write_clips(tmp_path, ("good", "bad"))
    (tmp_path / "bad.mp4").write_bytes(b"")
    assert fit(manifest, "rotary", "--config", str(SETUPS["backbone"]))[0] == 1
    bank = MotionBank(tmp_path / "bank")
    assert bank.failures().keys() == {"bad"} and bank.requests.names() == set()


@pytest.mark.parametrize("backbone", ["tiny-rope", "tiny-sincos", "tiny-wan"])
@pytest.mark.parametrize("setup", SETUPS)
def test_it_builds_on_the_embedded_backbones_it_is_for(setup, backbone):
    loaded, wanted = embedded(backbone), choices_of(setup)
    positions = {"rotary_tables": "rotary", "rotary_positions": "rotary"}
    positions |= {"sinusoidal": "sinusoidal"}
    own = loaded.spec.position
    if positions.get(wanted.variable, own) != own:
        with pytest.raises(
            ValueError, match="needs (rotary|sinusoidal) positions; those of .* are"
        ):
            wanted.on(loaded)
        return
    assert wanted.on(loaded).guidance.variable == (wanted.variable or "latents")


@pytest.mark.parametrize("file", PUBLISHED)
@pytest.mark.parametrize("setup", SETUPS)
def test_on_a_published_backbone_it_has_the_published_values(setup, file):
    """Its file does not stand in the setup's way: the rates are those of the setup's own variable
    and update.
    """
    (sizes, block), wanted = PUBLISHED[file], choices_of(setup, file)
    backbone = tiny_backbone(sizes["position"])
    backbone.spec = replace(backbone.spec, **sizes)
    if (wanted.variable or "latents").split("_")[0] not in ("latents", sizes["position"]):
        with pytest.raises(
            ValueError, match="needs (rotary|sinusoidal) positions; those of .* are"
        ):
            wanted.on(backbone)
        return
    recipe = wanted.on(backbone)
    signal, window = recipe.guidance.signal, (recipe.window.start, recipe.window.stop)
    assert (len(recipe.schedule), recipe.schedule.guidance_scale, window) == (
        50,
        7.0,
        (0, 0 if setup == "backbone" else 10),
    )
    assert "bad quality" in recipe.negative_prompt and recipe.guidance.checkpointing
    if signal is not None:
        rate = (0.04, 0.02) if wanted.variable == "rotary_positions" else RATES[wanted.update]
        assert (signal.block, recipe.guidance.learning_rate, recipe.guidance.inner_steps) == (
            block,
            rate,
            5 if wanted.update == "adam" else 1,
        )


@pytest.mark.parametrize("setup", SETUPS)
def test_it_stays_as_published_whatever_is_recommended(setup, monkeypatch):
    wanted = choices_of(setup)
    model = embedded("tiny-sincos" if wanted.variable == "sinusoidal" else "tiny-rope")
    before, advice = wanted.on(model).provenance, recipes.recommended(model.spec)
    begin, passes = {"own", "field"} - {advice.begin}, {"both", "conditional"} - {advice.passes}
    other = replace(advice, begin=begin.pop(), passes=passes.pop(), injection_blocks=(3,))
    other = replace(other, noise_share=0.5, inner_steps=9)
    monkeypatch.setattr(recipes, "recommended", lambda spec: other)
    after, free = wanted.on(model).provenance, set()
    if wanted.signal is None:  # nothing is optimised
        free = {"passes", "inner_steps"}
    elif wanted.variable == "latents":  # nothing is placed
        free = {"passes"}
    assert {key for key in before if before[key] != after[key]} == free


@pytest.mark.parametrize("setup", SETUPS)
def test_it_says_what_it_costs(setup):
    """On the published backbones: 50 steps, a window of 10, and their blocks 20 of 42 and 15 of
    30.
    """
    wanted = choices_of(setup)
    backbone, blocks, block = (
        ("tiny-sincos", 30, 15) if wanted.variable == "sinusoidal" else ("tiny-rope", 42, 20)
    )
    window = 0.2 if wanted.window is None else wanted.window
    recipe = replace(wanted, steps=50, window=window).on(embedded(backbone))
    signal = recipe.guidance.signal
    guidance = replace(
        recipe.guidance, signal=None if signal is None else replace(signal, block=block)
    )
    said = re.search(r"# Cost: (\d+) forward passes .* CogVideoX-(5|2)B", SETUPS[setup].read_text())
    assert said and said[2] == ("2" if blocks == 30 else "5")
    spec = replace(recipe.backbone.spec, blocks=blocks)
    assert round(guidance.forward_equivalents(recipe.schedule, spec)) == int(said[1])


AMF = "ditflow.motion.amf.AttentionMotionFlow"
SPELLINGS = (
    "--model.signal amf --model.signal_arguments {temperature:3} --model.block 1",
    "--model.signal AttentionMotionFlow --model.signal.temperature 3 --model.signal.block 1",
    f"--model.signal {AMF} --model.signal.temperature 3 --model.block 1",
    "--model.signal {class_path:AttentionMotionFlow,init_args:{temperature:3,block:1}}",
    "--model.signal AttentionMotionFlow --model.signal_arguments {temperature:3} --model.block 1",
    "--config setup.yaml",
    "--config setup.yaml --model.variable ditflow.sampling.variables.RotaryPositions",
)


def test_every_spelling_of_a_signal_makes_the_same_entry(clips, tmp_path, monkeypatch):
    """By name or by class, on the command line or in a file, to the last bit."""
    monkeypatch.chdir(tmp_path)
    signal = {"class_path": "AttentionMotionFlow", "init_args": {"temperature": 3, "block": 1}}
    model = {"variable": "rotary_positions", "signal": signal}
    Path("setup.yaml").write_text(yaml.safe_dump({"model": model}))
    found = []
    for index, words in enumerate(SPELLINGS):
        options = [word.replace(":", ": ") for word in words.split()]
        if "--model.variable" not in options:
            options += ["--model.variable", "rotary_positions"]
        quick = arguments("fit", f"bank-{index}", manifest=clips)
        assert ditflow(monkeypatch, *quick, *options) == 0
        found.append(MotionBank(f"bank-{index}")["a"])
    assert found[0].metadata.signal == {
        "name": "amf",
        "block": 1,
        "temperature": 3.0,
        "threshold": True,
    }
    assert len({entry.content_hash for entry in found}) == 1


def test_help_of_a_signal_shows_its_own_options(monkeypatch, capfd):
    assert ditflow(monkeypatch, "fit", "--model.signal.help", "MotionClone") == 0
    shown = capfd.readouterr().out
    options = ("mode", "exclude_self", "temperature", "block", "reference_timestep")
    assert all(f"--model.signal.{name}" in shown for name in options), shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--model.signal", "smm", "--model.signal_arguments", "{colour: 3}"],
            "signal 'smm' takes reference_timestep, reference_noise, compat",
        ),
        (
            ["--model.signal", "smm", "--model.signal_arguments", "{compat: maybe}"],
            "signal 'smm' takes",
        ),
        (
            ["--model.signal", "smm", "--model.signal_arguments", "{block: 2}"],
            "what was given does not fit",
        ),
        (["--model.signal", "moft", "--model.signal_arguments", "{proportion: 2}"], "proportion=2"),
        (
            ["--model.signal", "smoke"],
            "unknown signal 'smoke': it is one of amf, smm, moft, motionclone, motionflow",
        ),
        (
            ["--model.signal", "AttentionMotionFlow", "--model.signal.temperature", "hot"],
            "temperature",
        ),
        (["--model.signal", "AttentionMotionFlow", "--model.signal.colour", "3"], "colour"),
        (["--model.signal", "MotionFeature", "--model.signal.proportion", "2"], "proportion=2"),
        (["--model.signal", "null"], "add --model.finish true"),
        (
            ["--model.signal", "null", "--model.finish", "true", "--model.block", "1"],
            "block was given, but there is no signal",
        ),
        (
            ["--model.signal", "smm", "--model.signal_arguments", "{reference_timestep: 4000}"],
            "no timestep 4000 to look at the reference",
        ),
        (["--model.update", "score"], "use variable 'latents' and inner_steps=1"),
        (["--model.update", "newton"], "--model.update cannot be 'newton': give 'adam'"),
        (
            ["--model.signal", "motionflow", "--model.signal_arguments", "{subject: zebra}"],
            "prompt 'a cat dance' does not have the subject word 'zebra'",
        ),
        (
            ["--model.signal", "motionflow", "--model.signal_arguments", "{subject: 7}"],
            "'a cat dance' has no word 7",
        ),
    ],
)
def test_what_makes_no_sense_is_one_sentence(fit, clips, words, sentence):
    code, said = fit(clips, "rotary", *words)
    assert code == 2 and sentence in said and "Traceback" not in said, said


def test_a_clip_without_a_caption_does_not_stop_the_others(fit, tmp_path):
    manifest = write_clips(tmp_path, ("with", "without"))
    manifest.write_text(
        "video,prompt,caption,subject,caption_subject\n"
        "with.mp4,a cat dance,the dog running,dance,dog\n"
        "without.mp4,a cat dance,,,\n"
    )
    code, said = fit(manifest, "rotary", "--model.signal", "motionflow")
    assert (
        code == 1
        and "'without' failed: signal 'motionflow' looks at a clip together with its caption"
        in said
    )
    metadata = MotionBank(tmp_path / "bank").metadata("with")
    assert (metadata.caption, metadata.subject, metadata.caption_subject) == (
        "the dog running",
        "dance",
        "dog",
    )
