"""--model.memory and --model.quantised, as a user sees them: a plan is chosen and said, or refused
before anything is loaded.
"""

from __future__ import annotations

import re

import pytest

from ditflow.bank import MotionBank
from ditflow.video_provenance import read_provenance
from tests.clips import arguments, ditflow


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    """Run a command in an empty folder: its exit code, and all that it says."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str]:
        with monkeypatch.context() as undone:
            code = ditflow(undone, *map(str, words))
        return code, " ".join("".join(capfd.readouterr()).split())

    return run


def fit(clips, *more: str) -> list[str]:
    return [*arguments("fit", "bank", manifest=clips, batch_size=3), *more]


def test_a_plan_is_chosen_and_said_in_a_dry_run_and_in_the_run(run, clips) -> None:
    """A run that has less memory makes the same entries, bit by bit."""
    assert run(*fit(clips))[0] == 0
    wanted = MotionBank("bank")["left"]
    little = fit(clips, "--bank", "little", "--model.memory", "1.5MiB")
    code, planned = run(*little, "--dry_run")
    found = re.search(r"memory estimated (whole weights, checkpointing .*?) clips", planned)
    assert code == 0 and found is not None
    assert " of 1.5 MiB at the peak, estimated): whole weights would take " in found[1]
    with pytest.warns(UserWarning) as said:
        assert run(*little)[0] == 0
    assert any(": whole weights, checkpointing (" in str(one.message) for one in said)
    made = MotionBank("little")["left"]
    assert made.parameters.equal(wanted.parameters) and made.metadata.quantised == ""


@pytest.mark.parametrize("more", [[], ["--dry_run"]])
def test_what_fits_no_plan_is_refused_before_anything_is_loaded(
    run, clips, tmp_path, monkeypatch, more
) -> None:
    monkeypatch.setattr("ditflow.models.parts.load_transformer", None)
    large = ["--data.size", "[64,96]", "--model.memory", "1MiB"]
    code, said = run(*fit(clips, *large, *more))
    assert code == 2 and "Traceback" not in said
    assert re.search(
        r"ditflow: '\S+' at 3 videos of 9x64x96 does not fit into 1 MiB\. The smallest plan, .*, "
        r"needs \S+ MiB\. Use fewer --data\.frames, a smaller --data\.size",
        said,
    )
    assert not (tmp_path / "bank" / "entries").exists()


@pytest.mark.parametrize("amount", ["lots", "24", "24G"])
def test_an_amount_that_is_none_is_refused(run, clips, amount: str) -> None:
    code, said = run(*fit(clips, "--model.memory", amount))
    assert code == 2 and re.search(rf"ditflow: memory '?{amount}'? is", said)


def test_predict_has_a_plan_of_its_own(run, clips) -> None:
    """It needs no backward pass, so less is enough; the video is the same."""
    assert run(*fit(clips))[0] == 0
    open("prompts.txt", "w").write("a dog\n")
    predict = arguments("predict", "bank", prompts="prompts.txt", entries="[left]")
    code, planned = run(*predict, "--model.memory", "100MiB", "--dry_run")
    assert code == 0 and "100 MiB at the peak, estimated): it is the fastest" in planned
    with pytest.warns(UserWarning, match="whole weights .* it is the fastest"):
        assert run(*predict, "--model.memory", "100MiB", "--out", "planned")[0] == 0


def test_quantised_weights_are_kept_in_what_is_made_of_them(run, clips, tmp_path) -> None:
    pytest.importorskip("torchao")
    options = ["--model.quantised", "int8", "--model.finish", "true", "--out", "videos"]
    assert run(*fit(clips, *options))[0] == 0
    assert MotionBank("bank").metadata("left").quantised == "int8"
    assert read_provenance(tmp_path / "videos" / "left.mp4").quantised == "int8"
    code, said = run(*fit(clips))
    assert code != 0 and "quantised" in said  # such an entry is no whole one
    open("prompts.txt", "w").write("a dog\n")
    predict = arguments("predict", "bank", prompts="prompts.txt", entries="[left]")
    assert run(*predict, "--model.quantised", "fp8", "--out", "made")[0] == 0
    (file,) = (tmp_path / "made").glob("*.mp4")
    assert run("predict", "--again", file)[0] == 0
    again = read_provenance(tmp_path / "made" / "again" / file.name)
    assert again == read_provenance(file) and again.quantised == "fp8"
