"""`ditflow bank gallery`: what it shows of a bank, what it keeps, and what it refuses."""

from __future__ import annotations

import html
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from ditflow.bank import MotionBank
from ditflow.fields import described
from tests.clips import ditflow
from tests.ditflow.bank.entries import make_entry, make_field_entry, replaced
from tests.ditflow.bank.search.test_search import MOTIONS, fill
from tests.ditflow.test_old_bank import DATA
from tests.ditflow.visual.test_page import Elements
from tests.trainers.commands.bank.test_command import damage
from trainers.commands.bank.command import main
from trainers.report.films import LONGER, MOMENTS, film_of, tile_shape

NASTY = "</script><script>alert(1)</script> <img src=x onerror=alert(1)> \x1b[31m {{ 7 * 7 }}"


@pytest.fixture
def bank(tmp_path: Path) -> MotionBank:
    """Motion fields, an optimised entry with its motion, and one of before without."""
    bank = fill(MotionBank(tmp_path / "bank", create=True))
    bank["kept"] = make_entry(1).with_motion(MOTIONS["zoom"], described(MOTIONS["zoom"]))
    bank["old"] = make_entry(2)
    return bank


def made(bank: MotionBank, out: Path, code: int = 0) -> Elements:
    assert main(["gallery", bank.path, "--out", str(out)]) == code
    return Elements((out / "index.html").read_text(encoding="utf-8"))


def films(out: Path) -> dict[str, int]:
    """When each film was written, by its name."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "films").iterdir()}


def commands(out: Path) -> list[str]:
    """As a reader copies them."""
    codes = re.findall(r"<code>(.*?)</code>", (out / "index.html").read_text(encoding="utf-8"))
    return [html.unescape(re.sub(r"</?span>", "", code)) for code in codes]


def text_of(page: Elements) -> str:
    return "\n".join(page.texts)


def test_every_entry_has_a_card_with_its_words_source_settings_and_command(bank, tmp_path, capsys):
    page = made(bank, tmp_path / "gallery")
    told = capsys.readouterr().out
    assert told.startswith(f"{tmp_path / 'gallery' / 'index.html'} (8 entries, ")
    text = text_of(page)
    for name in bank:
        assert name in page.texts
    assert "pans left slowly" in page.texts and "clip kite.mp4, 9 frames of 32 x 48" in page.texts
    assert "rotary_positions of tiny-rope" in page.texts and "inner_steps: 2" in text
    used = [shlex.split(command) for command in commands(tmp_path / "gallery")]
    assert len(used) == 8
    begin = [*"ditflow predict --model.backbone=tiny-rope --bank".split(), bank.path]
    end = "--data.prompts prompts.txt --out videos/".split()
    assert used[0] == [*begin, "--data.entries", '["kept"]', *end]
    shown = {image["src"] for image in page.all("img") if not image["src"].startswith("data:")}
    assert shown == {f"films/{name}" for name in films(tmp_path / "gallery")} and len(shown) == 7


def test_what_was_optimised_shows_its_loss_and_says_where_a_motion_is_missing(bank, tmp_path):
    page = made(bank, tmp_path / "gallery")
    curves = [svg for svg in page.all("svg") if svg.get("aria-label") == "loss"]
    assert len(curves) == 2 and "0.9 → 0.25" in text_of(page)
    assert sum("keeps no motion of its clip" in part for part in page.texts) == 1


def test_measures_sort_as_the_motions_are(bank, tmp_path):
    cards = made(bank, tmp_path / "gallery").all("article")
    motion = dict(zip(bank, (card["data-motion"] for card in cards), strict=True))
    assert motion.pop("old") == ""
    amounts = {name: float(value) for name, value in motion.items()}
    assert amounts["left"] == pytest.approx(0.2, rel=1e-2)  # float16, in heights of the frame
    assert amounts["left-slowly"] == pytest.approx(0.05, rel=1e-2) and amounts["still"] == 0
    losses = dict(zip(bank, (card["data-loss"] for card in cards), strict=True))
    assert {name for name, loss in losses.items() if loss} == {"kept", "old"}


def test_what_strangers_write_stays_text(bank, tmp_path):
    told = {"prompt": NASTY, "clip": NASTY, "tags": (NASTY,), "words": NASTY}
    bank["nasty"] = make_field_entry(3, method=NASTY, **told)
    bank["other"] = replaced(make_entry(3), backbone=f"'; {NASTY}", prompt=NASTY * 700)
    made(bank, tmp_path / "gallery")
    page = (tmp_path / "gallery" / "index.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1 and "<img src=x" not in page and "\x1b" not in page
    assert "{{ 7 * 7 }}" in page and len(page) < 100_000  # long texts are cut
    used = commands(tmp_path / "gallery")
    assert sum("--model.backbone=MODEL" in command for command in used) == 1
    assert "alert" not in "".join(used)


def test_a_command_keeps_a_strange_backbone_in_one_word(bank, tmp_path):
    backbone = "a b; rm --force ~ '$(id)' \"`id`\" <b>"
    bank["other"] = replaced(make_entry(3), backbone=backbone)
    made(bank, tmp_path / "gallery")
    command = next(text for text in commands(tmp_path / "gallery") if "rm --force" in text)
    assert shlex.split(command)[2] == f"--model.backbone={backbone}"


def test_a_damaged_entry_costs_itself_and_is_named(bank, tmp_path, capsys):
    damage(bank, "left")
    with open(f"{bank.path}/entries/old.safetensors", "r+b") as file:
        file.truncate(100)
    page = made(bank, tmp_path / "gallery", code=1)
    errors = capsys.readouterr().err
    assert len(page.all("article")) == 6 and "2 damaged and left out" in page.texts
    for name in ("'left'", "'old'"):
        assert name in errors and any(name in part for part in page.texts)


def test_a_motion_as_far_as_any_goes_is_drawn(bank, tmp_path):
    """No stranger's numbers stop the others' cards."""
    entry = make_entry(3).with_motion(MOTIONS["left"], "pans left")
    far = torch.full_like(entry.displacement, 100.0)
    bank["far"] = type(entry)(
        entry.metadata, entry.parameters, displacement=far, confidence=entry.confidence
    )
    assert len(made(bank, tmp_path / "gallery").all("article")) == 9


def test_again_draws_only_what_is_new_and_removes_what_is_gone(bank, tmp_path):
    out = tmp_path / "gallery"
    made(bank, out)
    before = films(out)
    (out / "films" / "holiday.webp").write_bytes(b"mine")
    (out / "notes.txt").write_text("mine")
    del bank["zoom"]
    bank.put("left", make_field_entry(9), overwrite=True)
    made(bank, out)
    after = films(out)
    assert after.pop("holiday.webp") and (out / "notes.txt").exists()
    assert len(before.keys() - after.keys()) == 2 and len(after.keys() - before.keys()) == 1
    kept = before.keys() & after.keys()
    assert len(kept) == 5 and all(after[name] == before[name] for name in kept)


def test_a_gallery_of_before_stays_whole_when_a_run_is_killed(bank, tmp_path, monkeypatch):
    out = tmp_path / "gallery"
    made(bank, out)
    page, before = (out / "index.html").read_bytes(), films(out)
    bank["new"], bank["newer"] = make_field_entry(8), make_field_entry(9)
    drawn = []

    def killed(field):
        drawn.append(field)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return film_of(field)

    monkeypatch.setattr("trainers.report.films.film_of", killed)
    with pytest.raises(KeyboardInterrupt):
        made(bank, out)
    assert (out / "index.html").read_bytes() == page and before.items() <= films(out).items()
    monkeypatch.undo()
    assert len(made(bank, out).all("article")) == 10


def test_a_folder_of_a_killed_first_run_is_taken(bank, tmp_path):
    (tmp_path / "gallery" / "films").mkdir(parents=True)
    made(bank, tmp_path / "gallery")


@pytest.mark.parametrize("held", ["photo.jpg", "index.html"])
def test_a_folder_of_something_else_is_refused(bank, tmp_path, capsys, held):
    out = tmp_path / "mine"
    out.mkdir()
    (out / held).write_text("<!doctype html><title>mine</title>")
    assert main(["gallery", bank.path, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"{out} is no gallery, and holds {held}: name a new folder" in error
    assert [path.name for path in out.iterdir()] == [held]


def test_the_bank_itself_is_no_place_and_neither_is_a_file(bank, tmp_path, capsys):
    assert main(["gallery", bank.path, "--out", bank.path]) == 2
    assert "is no gallery, and holds entries" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["gallery", bank.path, "--out", str(tmp_path / "file")]) == 2
    assert "is a file, and a gallery is a folder" in capsys.readouterr().err


def test_an_empty_bank_has_a_page(tmp_path):
    (tmp_path / "bank" / "entries").mkdir(parents=True)
    assert made(MotionBank(tmp_path / "bank"), tmp_path / "gallery").all("article") == []


@pytest.mark.parametrize("aspect", [1.5, 0.3, 4000.0])
def test_a_film_is_tiles_of_the_motion_above_tiles_of_its_colours(aspect):
    motion = MOTIONS["left"]
    field = type(motion)(**vars(motion) | {"aspect": aspect})
    film = Image.open(io.BytesIO(film_of(field)))
    height, width = tile_shape(aspect)
    assert film.size == (MOMENTS * width, 2 * height) and max(height, width) <= LONGER
    first, last = (film.getpixel((x, 3 * height // 2)) for x in (width // 2, film.size[0] - 3))
    assert min(first[:3]) > 245 and max(last[:3]) - min(last[:3]) > 100  # white, then a colour


def test_the_commands_are_understood(tmp_path, monkeypatch, capsys):
    """Those of a motion field and of an entry of an earlier version."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DATA, "bank")
    bank = fill(MotionBank("bank"))
    Path("prompts.txt").write_text("red clouds\n")
    made(bank, Path("gallery"))
    for name in ("left", "tiny-rope-rotary_positions"):
        command = next(text for text in commands(Path("gallery")) if f'["{name}"]' in text)
        assert ditflow(monkeypatch, *shlex.split(command)[1:], "--dry_run") == 0
        assert "1 to make" in capsys.readouterr().out
