"""`ditflow motion`: what it writes and says, and its mistakes in one sentence."""

# T frames, C channels, Y X pixel rows and columns
from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ditflow.bank import MotionBank
from ditflow.video import write_video
from tests.clips import ditflow
from tests.ditflow.bank.entries import make_entry, make_field_entry
from tests.registry import tiny_folder


def smooth(seed: int, width: int) -> Tensor:
    """A picture uint8 (C, 64, width) that optical flow can follow."""
    coarse = torch.rand(1, 3, 16, width // 4, generator=torch.Generator().manual_seed(seed))
    fine = functional.interpolate(coarse, (64, width), mode="bicubic", align_corners=False)
    return (fine[0].clamp(0, 1) * 255).to(torch.uint8)


def panning(frames: int) -> Tensor:
    """Content that moves right by a pixel a frame: uint8 (T, C, 64, 96)."""
    wide = smooth(0, 96 + 64)
    return torch.stack([wide[..., 64 - frame : 160 - frame] for frame in range(frames)])


@pytest.fixture(scope="module")
def pan(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("motion") / "pan.mp4"
    write_video(file, panning(9), 8)
    return file


def test_draws_a_clip(monkeypatch, capsys, pan, tmp_path):
    out = tmp_path / "drawn"
    assert ditflow(monkeypatch, "motion", str(pan), "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert "of the picture was followed with confidence." in said
    assert str(out / "motion.png") in said
    with Image.open(out / "motion.png") as picture:
        assert picture.width > picture.height > 400
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "Motion of pan" in page and page.count("<video") == 5
    assert "http://" not in page and "https://" not in page, "a page needs nothing from elsewhere"


@pytest.mark.parametrize("source", ["lucas-kanade", "amf"])
def test_draws_what_another_source_sees(monkeypatch, capsys, pan, tmp_path, source):
    words = ["motion", str(pan), "--out", str(tmp_path), "--source", source]
    words += ["--backbone", str(tiny_folder("rotary")), "--size", "64", "96", "--frames", "9"][
        : None if source == "amf" else 0
    ]
    assert ditflow(monkeypatch, *words) == 0
    assert "of the picture was followed with confidence." in capsys.readouterr().out
    assert (tmp_path / "motion.png").is_file()


def test_folder_is_named_after_the_clip(monkeypatch, pan, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert ditflow(monkeypatch, "motion", str(pan), "--frames", "3") == 0
    assert (tmp_path / "pan-motion" / "motion.png").is_file()


def test_without_jinja2_there_is_the_picture(monkeypatch, capsys, pan, tmp_path):
    monkeypatch.setattr(
        "trainers.commands.motion.find_spec",
        lambda name: None if name == "jinja2" else find_spec(name),
    )
    assert ditflow(monkeypatch, "motion", str(pan), "--out", str(tmp_path), "--frames", "3") == 0
    assert "ditflow[report]" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["motion.png"]


def test_long_clips_are_cut_short_and_it_says_so(monkeypatch, capsys, tmp_path):
    write_video(tmp_path / "long.mp4", panning(60), 8)
    words = ("motion", str(tmp_path / "long.mp4"), "--out", str(tmp_path / "out"))
    assert ditflow(monkeypatch, *words, "--stride", "1", "--size", "32", "48") == 0
    assert "the first 49 of 60 frames are taken" in capsys.readouterr().err


@pytest.fixture
def bank(tmp_path) -> str:
    bank = MotionBank(tmp_path / "bank", create=True)
    bank["kite"] = make_field_entry()
    bank["optimised"] = make_entry()
    return str(tmp_path / "bank")


def test_draws_an_entry_without_its_clip(monkeypatch, bank, tmp_path):
    out = tmp_path / "out"
    assert ditflow(monkeypatch, "motion", bank, "kite", "--out", str(out)) == 0
    assert (out / "motion.png").is_file()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("<video") == 4, "there are no frames of the clip to show"


def test_an_optimised_entry_is_no_field(monkeypatch, capsys, bank):
    assert ditflow(monkeypatch, "motion", bank, "optimised") == 2
    assert "no motion field to draw" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("absent.mp4",), "There is no file or folder"),
        (("one.mp4",), "frame"),
        (("cut.mp4",), "cut"),
        (("cut.mp4", "--size", "8", "64"), "--size 8 64 is too small"),
        (("cut.mp4", "--start", "99"), "frames"),
        (("cut.mp4", "--stride", "2", "--fps", "4"), "give one of them"),
        ((".", "name"), "bank"),
        (("cut.mp4", "--source", "other"), "unknown source 'other' of a motion field; there are"),
        (
            ("cut.mp4", "--source", "amf"),
            "takes `--backbone NAME`",
        ),
        (("cut.mp4", "--source", "cotracker3"), "Or use lucas-kanade."),
        (("cut.mp4", "--backbone", "tiny-rope"), "--backbone is for --source amf"),
        (("cut.mp4", "--source", "amf", "--backbone", "absent"), "absent"),
        ((".", "name", "--frames", "4"), "holds its frames already"),
    ],
)
def test_mistakes_are_one_sentence(monkeypatch, capsys, tmp_path, words, sentence):
    monkeypatch.chdir(tmp_path)
    frames = panning(8)
    frames[4:] = smooth(1, 96)
    write_video("one.mp4", frames[:1], 8)
    write_video("cut.mp4", frames, 8)
    assert ditflow(monkeypatch, "motion", *words) == 2
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said
    assert not list(tmp_path.glob("*-motion"))


def test_help_is_short_and_says_what_is_written(monkeypatch, capsys):
    assert ditflow(monkeypatch, "motion", "--help") == 0
    said = capsys.readouterr().out
    assert "motion.png" in said and len(said.splitlines()) < 32


def test_optical_flow_needs_no_model(pan, tmp_path):
    code = (
        "import sys; from trainers.cli import main; "
        f"main(['motion', {str(pan)!r}, '--frames', '3', '--out', {str(tmp_path)!r}]); "
        f"print({{'diffusers', 'transformers'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
