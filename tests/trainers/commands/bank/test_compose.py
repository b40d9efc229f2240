"""`ditflow bank compose`: an entry of two, as the operations on fields make it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image as pil

from ditflow.bank import FieldEntry, MotionBank
from ditflow.fields import MotionField
from ditflow.fields.operations import added, chained, parted
from ditflow.video import read_mask
from tests.ditflow.bank.entries import make_entry, make_field_metadata
from tests.ditflow.fields.analytic import ASPECT, CELLS, FRAMES, moving
from trainers.commands.bank.command import main
from trainers.commands.bank.staging import stage


def entry_of(field: MotionField, clip: str) -> FieldEntry:
    size = (FRAMES, CELLS[0], round(CELLS[0] * ASPECT))
    told = make_field_metadata(clip=clip, size=size, times=field.times, tags=(clip[:4],))
    return FieldEntry(told, field.displacement.half(), field.confidence.half())


@pytest.fixture
def bank(tmp_path, monkeypatch) -> MotionBank:
    monkeypatch.chdir(tmp_path)
    bank = MotionBank("bank", create=True)
    bank["turn"] = entry_of(moving(degrees=20), "turn.mp4")
    bank["pan"] = entry_of(moving((0.3, 0.0)), "pan.mp4")
    bank["optimised"] = make_entry(0)
    return bank


def test_each_way_is_the_operation(bank, capsys) -> None:
    turn, pan = bank["turn"].field, bank["pan"].field
    mask = pil.new("L", (36, 24))
    mask.paste(255, (0, 0, 18, 24))
    mask.save("left, half.png")
    region = torch.zeros(24, 36)
    region[:, :18] = 1
    box = (0.0, 0.0, 0.5, 1.0)
    wanted = {
        "turn then pan": chained(turn, pan),
        "turn then pan --at 0.25": chained(turn, pan, 0.25),
        "pan plus pan": added(pan, pan),
        "turn within pan --region|0 0 0.5 1": parted(turn, pan, box),
        'turn within pan --region|"left, half.png" moving': parted(turn, pan, region, moving=True),
    }
    for number, (words, field) in enumerate(wanted.items()):
        words, _, region_words = words.partition("|")
        given = [*words.split(), *([region_words] if region_words else [])]
        assert main(["compose", "bank", f"new{number}", *given]) == 0
        made = bank[f"new{number}"]
        assert torch.equal(made.displacement, field.displacement.half())
        assert made.metadata.times == field.times and made.metadata.size == (FRAMES, 24, 36)
    assert bank["new0"].metadata.clip == "turn.mp4 then pan.mp4, at 0.5"
    assert bank["new0"].metadata.tags == ("turn", "pan.")
    assert "entry new0: " in capsys.readouterr().out
    assert main(["verify", "bank"]) == 0
    assert bank.search(like="pan").matches


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["new", "turn", "then", "none"], "holds no entry 'none'"),
        (
            ["new", "turn", "then", "optimised"],
            "entry 'optimised' was optimised, and motion fields",
        ),
        (["new", "turn", "within", "pan"], "`within` needs --region, such as"),
        (["new", "turn", "then", "pan", "--region", "0 0 1 1"], "`within` needs --region, such as"),
        (["new", "turn", "plus", "pan", "--at", "0.5"], "--at says where the second motion begins"),
        (["new", "turn", "then", "pan", "--at", "1"], "begins at a share from 0 to 1, not 1"),
        (
            ["new", "turn", "within", "pan", "--region", "0 0 1"],
            "the region '0 0 1' is not LEFT TOP RIGHT BOTTOM or",
        ),
        (
            ["new", "turn", "within", "pan", "--region", "my mask, left.png"],
            "commas stands in quotes",
        ),
        (["new", "turn", "within", "pan", "--region", "a.png"], "There is no file or folder a.png"),
        (["pan", "turn", "then", "pan"], "remove that one by `ditflow bank rm` first"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_made(bank, words, sentence, capsys) -> None:
    assert main(["compose", "bank", *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert sorted(bank) == ["optimised", "pan", "turn"]


def test_a_mask_is_told_by_the_name_and_hash_of_its_file(bank) -> None:
    path = (Path.cwd() / "my left.png").resolve()
    pil.new("L", (36, 24), 255).save(path)
    region = f'"{path}" moving'
    assert main(["compose", "bank", "new", "turn", "within", "pan", "--region", region]) == 0
    told = read_mask(path).sha256[:8]
    assert bank["new"].metadata.clip == f"turn.mp4 within pan.mp4, in my left.png moving ({told})"
    stage(bank, "staged")


def test_what_is_composed_again_and_again_is_told_shortly(bank) -> None:
    last = "turn"
    for number in range(8):
        assert main(["compose", "bank", f"new{number}", last, "then", last]) == 0
        last = f"new{number}"
    assert len(bank[last].metadata.clip) <= 200
