"""`ditflow bank`: what a person sees of a bank, and the exit codes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from ditflow.bank import MotionBank
from tests.ditflow.bank.entries import make_entry, make_field_entry, replaced
from trainers.commands.bank.command import COMMANDS, loss_curve, main


@pytest.fixture
def bank(tmp_path):
    bank = MotionBank(tmp_path / "bank", create=True)
    bank["kite"] = make_entry(1)
    bank["a-very-long-name-" + "x" * 100] = make_entry(
        2, variable="sinusoidal", prompt="second\nline \x1b[31m[bold]not markup[/bold]"
    )
    return bank


def damage(bank, name):
    file = f"{bank.path}/entries/{name}.safetensors"
    with open(file, "r+b") as stream:
        stream.seek(-3, 2)
        byte = stream.read(1)
        stream.seek(-3, 2)
        stream.write(bytes([byte[0] ^ 1]))


def test_list(bank, capsys):
    bank.save_inflight("batch", {}, {})
    bank.mark_failed("boat", "boat.mp4 is truncated.")
    assert main(["list", bank.path]) == 0
    shown = capsys.readouterr().out
    assert (
        "kite" in shown
        and "rotary_positions" in shown
        and "2x3x4" in shown
        and "0.25" in shown
        and "kite.mp4" in shown
    )
    assert shown.count("x" * 20) >= 1 and "\x1b" not in shown and "[bold]" in shown
    assert (
        "2 entries, 1 batch in flight, 1 clip failed" in shown
        and "failed: boat, 1 time: boat.mp4 is truncated." in shown
    )


def test_list_marks_a_motion_field(bank, capsys):
    bank["sail"] = make_field_entry()
    assert main(["list", bank.path]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["sail"].split()[1:4] == ["instant", "3x4x5", "kite.mp4"]  # no steps, no loss
    assert lines["sail"].endswith("pans left slowly") and "motion | prompt" in lines["entry"]
    assert "rotary_positions" in lines["kite"]


def test_show_a_motion_field(bank, capsys):
    bank["sail"] = make_field_entry()
    assert main(["show", bank.path, "sail"]) == 0
    shown = capsys.readouterr().out
    for told in ("pans left slowly", "dis", "(0.0, 2.0, 6.0)", "(9, 24, 32)"):
        assert told in shown
    assert "loss" not in shown


def test_list_of_an_empty_bank(tmp_path, capsys):
    (tmp_path / "entries").mkdir()
    assert main(["list", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == "0 entries, 0 batches in flight, 0 clips failed"


def test_list_names_an_entry_whose_header_is_damaged(bank, capsys):
    file = f"{bank.path}/entries/kite.safetensors"
    with open(file, "r+b") as stream:
        stream.truncate(100)
    assert main(["list", bank.path]) == 1
    shown = capsys.readouterr()
    assert "damaged" in shown.out and shown.err.startswith("entry 'kite' is truncated")


def test_show(bank, capsys):
    bank.put("kite", replaced(bank["kite"], losses=((3.0, 2.5), (1.0,), (0.5,))), overwrite=True)
    assert main(["show", bank.path, "kite"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "a red kite, ½ as high as the clouds",
        "(900, 800, 700)",
        "'block': 3",
        "01" * 32,
        "loss of 4 updates in steps 1 to 3",
    ):
        assert text in shown
    assert "\n".join(loss_curve([3.0, 2.5, 1.0, 0.5])) in shown


def test_entries_that_do_not_say_how_frames_were_read(bank, capsys):
    """Those of before: nobody can tell whether they hold the motion of the frames that a player
    shows.
    """
    warning = "read other frames than a player shows from some AVI, MPEG-TS"
    assert main(["show", bank.path, "kite"]) == 0 and warning in " ".join(
        capsys.readouterr().out.split()
    )
    assert main(["verify", bank.path]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        f"{len(bank)} entries without a word on how frames were read: {', '.join(bank)}" in shown
        and warning in shown
    )
    for name in list(bank):
        bank.put(
            name, replaced(bank[name], reader="display order", container="avi"), overwrite=True
        )
    assert main(["show", bank.path, "kite"]) == main(["verify", bank.path]) == 0
    shown = capsys.readouterr().out
    assert warning not in " ".join(shown.split()) and "display order" in shown and "avi" in shown


def test_verify(bank, capsys):
    assert main(["verify", bank.path]) == 0
    assert "2 entries, all sound" in capsys.readouterr().out
    damage(bank, "kite")
    assert main(["list", bank.path]) == 0  # the header is sound: only reading everything finds it
    capsys.readouterr()
    assert main(["verify", bank.path]) == 1
    assert (
        capsys.readouterr().err
        == "entry 'kite' is damaged: its tensors do not have the sha256 that its header gives.\n"
    )


@pytest.mark.parametrize("command", ["list", "show", "verify"])
def test_what_is_no_bank(tmp_path, capsys, command):
    assert main([command, str(tmp_path / "nowhere"), *["kite"] * (command == "show")]) == 2
    assert capsys.readouterr().err.startswith(
        f"ditflow bank: {tmp_path}/nowhere is not a motion bank: there is nothing of that name."
    )


def test_an_unknown_entry(bank, capsys):
    assert main(["show", bank.path, "kit"]) == 2
    assert (
        capsys.readouterr().err
        == f"ditflow bank: {bank.path} holds no entry 'kit'. Did you mean kite?\n"
    )
    assert main(["show", bank.path, "../kite"]) == 2
    assert main(["show", bank.path, "zzz"]) == 2
    assert "`ditflow bank list` names them all." in capsys.readouterr().err


def test_a_damaged_entry(bank, capsys):
    with open(f"{bank.path}/entries/kite.safetensors", "r+b") as stream:
        stream.truncate(1000)
    assert main(["show", bank.path, "kite"]) == 2
    shown = capsys.readouterr()
    assert (
        shown.err.startswith("ditflow bank: entry 'kite' is truncated")
        and shown.err.count("\n") == 1
        and shown.out == ""
    )


@pytest.mark.parametrize("arguments", [[], ["draw", "bank"], ["list"], ["show", "bank"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2 and "usage: ditflow bank" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["list", "show kite", "verify", "reindex", "merge COPY", "export COPY kite", "rm kite", "gc"],
)
def test_no_torch_is_loaded(bank, command, tmp_path):
    name, *rest = command.replace("COPY", str(tmp_path / "copy")).split()
    arguments = [name, bank.path, *rest]
    numbers = ("verify", "reindex", "merge", "export")  # of motions, for all but the first
    heavy = {"torch", "lightning"} | ({"numpy"} if name not in numbers else set())
    check = f"assert not {heavy!r} & set(sys.modules)"
    code = (
        "import sys; from trainers.commands.bank.command import main; "
        f"code = main({arguments!r}); {check}; sys.exit(code)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and re.search(rf"examples?:\s+ditflow bank {command} ", shown)


def test_the_curve_shows_the_numbers():
    assert loss_curve([4.0, 3.0, 2.0, 1.0], height=2) == ["         4 █▃", "         1 ██▆▁"]
    assert loss_curve([0.0, 1.0], height=2) == ["         1  █", "         0 ▁█"]
    assert len(loss_curve([1.0] * 500)[0]) <= 83 and all(
        "█" not in line for line in loss_curve([1.0] * 3)
    )


def test_a_long_curve_is_averaged():
    values = [float(index < 500) for index in range(1000)]
    lowest = loss_curve(values, width=10, height=1)[0]
    assert lowest.endswith("█████▁▁▁▁▁")
