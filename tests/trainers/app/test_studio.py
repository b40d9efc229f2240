"""The work of the app without its page: clips, limits, regions, videos, stops, who sees what."""

# T frames, C channels, Y X pixel rows and columns
from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ditflow import Injection, MotionBank, inject_motion, read_provenance, read_video
from ditflow.fields import described
from ditflow.models.presets import recommended
from ditflow.sampling.control import Prompt
from ditflow.sampling.loop import sample
from ditflow.sampling.state import start
from ditflow.video import write_video
from tests.clips import assert_shows, ditflow
from tests.ditflow.bank.entries import make_entry, make_field_entry
from tests.registry import SIZE, tiny_backbone, tiny_folder
from tests.trainers.commands.test_motion import panning
from trainers.app import motions, visits
from trainers.app.motions import Limits, Motion, motion_of_clip
from trainers.app.studio import Studio, Wish, drawn
from trainers.app.visits import Stopped, Visits

STEPS = 4


def quiet(done: int, of: int) -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="module")
def studio():
    return Studio(tiny_backbone("rotary"), steps=STEPS)


@pytest.fixture(scope="module")
def pan(tmp_path_factory) -> Path:
    """A clip in which the camera pans left."""
    file = tmp_path_factory.mktemp("clips") / "My pan!.mp4"
    write_video(file, panning(9), 8)
    return file


@pytest.fixture(scope="module")
def taken(pan) -> Motion:
    return motion_of_clip(pan, Limits())


@pytest.fixture
def visitors(tmp_path) -> Visits:
    return Visits(tmp_path / "visits")


@pytest.fixture
def visit(visitors, taken):
    """A visit that has taken the motion of the clip."""
    visit = visitors.of("someone")
    visit.motion = taken
    return visit


def test_the_motion_of_a_clip_is_an_entry_with_words(taken, pan):
    assert taken.words == described(taken.field) and "pans left" in taken.words
    assert taken.name == "My-pan" and taken.doubts == ()
    metadata = taken.entry.metadata
    assert metadata.clip == "My pan!" and metadata.clip_sha256 == read_video(pan).sha256
    torch.testing.assert_close(taken.frames, read_video(pan).frames, rtol=0, atol=0)


def test_what_is_drawn_is_a_film_a_picture_and_a_ground_to_paint_on(taken, tmp_path):
    film = drawn(tmp_path, taken, "film.mp4", Motion.film)
    assert read_video(film).frames.shape[0] == len(taken.frames)
    ground = drawn(tmp_path, taken, "ground.png", Motion.ground)
    with Image.open(ground) as picture:
        assert picture.size == (512, 341), "as the clip, 96 x 64"
    assert drawn(tmp_path, taken, "film.mp4", lambda _: pytest.fail("drawn twice")) == film


def test_a_long_clip_is_taken_in_part_and_that_is_said(tmp_path):
    write_video(tmp_path / "long.mp4", panning(52), 8)
    motion = motion_of_clip(tmp_path / "long.mp4", Limits())
    assert len(motion.frames) == 49
    assert "the first 49 of 52 frames are taken." in motion.doubts


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(megabytes=0.001), r"^My pan!\.mp4 has 0\.0 MB, and at most 0\.001 are taken"),
        (Limits(seconds=1), r"^My pan!\.mp4 lasts 1\.1 seconds, and at most 1 are taken"),
    ],
)
def test_a_clip_beyond_the_limits_is_refused(pan, limits, said):
    with pytest.raises(ValueError, match=said):
        motion_of_clip(pan, limits)


def test_a_clip_of_too_many_pixels_is_refused_after_one_frame(pan, monkeypatch):
    monkeypatch.setattr(motions, "MOST_PIXELS", 1000)
    monkeypatch.setattr(motions, "clip_of", lambda _: pytest.fail("all of it was decoded"))
    with pytest.raises(ValueError, match=r"My pan!\.mp4 has frames of 96 x 64"):
        motion_of_clip(pan, Limits())


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_a_broken_clip_is_refused_by_its_name_alone(pan, tmp_path, content):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(pan.read_bytes()[:-2000] if content is None else content)
    with pytest.raises(ValueError, match=r"^broken\.mp4 ") as raised:
        motion_of_clip(broken, Limits())
    assert str(tmp_path) not in str(raised.value)


def test_what_cannot_be_looked_at_leaves_what_was_there(studio, visit, taken, tmp_path):
    with pytest.raises(ValueError, match=r"^gone\.mp4 is not here any more"):
        studio.look(visit, tmp_path / "gone.mp4")
    assert visit.motion is taken


def test_a_video_is_that_of_the_library_and_says_how_it_was_made(studio, visit, taken):
    told: list[tuple[int, int]] = []
    made = studio.make(visit, Wish("a cat", 0.7, 3), lambda *of: told.append(of))
    assert told == [(step, STEPS) for step in range(1, STEPS + 1)] and made.plain is None
    said = read_provenance(made.video)
    assert (said.prompt, said.strength, said.seed, said.steps) == ("a cat", 0.7, 3, STEPS)
    assert (said.entry, said.entry_sha256) == ("My-pan", taken.entry.content_hash)
    how = Injection(strength=0.7)
    wanted = inject_motion(studio.model, taken.entry, "a cat", seed=3, steps=STEPS, how=how)
    assert_shows(made.video, wanted)


def test_a_prompt_that_is_too_long_is_told(studio, visit):
    made = studio.make(visit, Wish("cats and " * 20), quiet)
    assert made.doubts == ("The prompt is longer than the model reads: its end is left out.",)
    assert studio.make(visit, Wish("a cat"), quiet).doubts == ()


def test_the_video_beside_it_is_the_plain_one(studio, visit):
    made = studio.make(visit, Wish("a cat", beside=True), quiet)
    model, advice = studio.model, recommended(studio.model.spec)
    text, negative = model.embed(["a cat", advice.negative_prompt]).split(1)
    state = start(model, model.spec.size, ["a cat"], [0])
    schedule = model.schedule(STEPS, advice.guidance_scale)
    state = sample(model, schedule, Prompt(text, negative), state)
    assert_shows(made.plain, model.decode(state.latents)[0])
    assert read_provenance(made.plain).strength == 0


def test_predict_makes_the_video_again_from_both_downloads(studio, visit, monkeypatch, tmp_path):
    """Also that of a painted part, whose motion is an entry of its own."""
    mask = torch.zeros(64, 96)
    mask[:, :48] = 1
    made = studio.make(visit, Wish("a cat", 1.0, 5, region=mask), quiet)
    entries = tmp_path / "bank" / "entries"
    entries.mkdir(parents=True)
    shutil.copy(made.entry, entries)
    words = ["predict", "--again", str(made.video), "--bank", str(tmp_path / "bank")]
    words += ["--model.backbone", str(tiny_folder("rotary")), "--out", str(tmp_path / "again")]
    assert ditflow(monkeypatch, *words) == 0
    (again,) = (tmp_path / "again").glob("*.mp4")
    assert torch.equal(read_video(again).frames, read_video(made.video).frames)


def test_a_model_that_makes_a_picture_move_asks_for_one(visit, tmp_path):
    model = tiny_backbone("wan-i2v-plain")
    model.spec = replace(model.spec, size=SIZE)
    studio = Studio(model, steps=2)
    with pytest.raises(ValueError, match="give the first picture, too"):
        studio.make(visit, Wish("a cat"), quiet)
    Image.new("RGB", (48, 32), "teal").save(tmp_path / "cat.png")
    made = studio.make(visit, Wish("a cat", image=tmp_path / "cat.png"), quiet)
    assert read_provenance(made.video).image == "cat.png"


def test_a_region_moves_its_part_alone(taken):
    mask = torch.zeros(64, 96)
    mask[:, :48] = 1
    part = taken.within(mask, moving=False)
    left, right = part.field.displacement.abs().split(part.field.cells[1] // 2, dim=3)
    assert left.max() > 0.05 and right[..., 1:].max() == 0
    assert part.entry.content_hash != taken.entry.content_hash
    assert part.entry.metadata.words == described(part.field)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (lambda: Wish("  "), "the prompt is empty"),
        (lambda: Wish("a cat", 2.5), "strength goes from 0 to 2, not 2.5"),
        (lambda: Wish("a cat", float("nan")), "strength goes from 0 to 2, not nan"),
        (lambda: Wish("a cat", 1.0, -1), "seed goes from 0 to"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wish, said):
    with pytest.raises(ValueError, match=said):
        wish()


def test_without_a_motion_there_is_nothing_to_make_or_to_keep(studio, visitors):
    with pytest.raises(ValueError, match="no motion yet"):
        studio.make(visitors.of("new"), Wish("a cat"), quiet)
    with pytest.raises(ValueError, match="no motion to keep"):
        studio.keep(visitors.of("new"), "name")


def test_a_region_of_an_optimised_entry_is_refused(studio, visit):
    visit.motion = Motion("old", make_entry(), None)
    with pytest.raises(ValueError, match="old was optimised, and a region is for motion fields"):
        studio.make(visit, Wish("a cat", region=torch.ones(4, 4)), quiet)


def test_a_stop_ends_it_between_steps_and_leaves_nothing(studio, visitors, visit):
    told: list[int] = []

    def stop_at_two(done: int, of: int) -> None:
        told.append(done)
        if done == 2:
            visitors.stop("someone")

    before = sorted(visit.folder.rglob("*"))
    with pytest.raises(Stopped):
        studio.make(visit, Wish("a cat", beside=True), stop_at_two)
    assert told == [1, 2] and sorted(visit.folder.rglob("*")) == before
    assert studio.make(visit, Wish("a cat"), quiet).video.is_file(), "the next one is made"


def test_one_at_a_time_and_who_goes_while_he_waits_is_not_served(studio, visitors, visit):
    waits, told = threading.Event(), []

    def work() -> None:
        waits.set()
        with pytest.raises(Stopped):
            studio.make(visit, Wish("a cat"), lambda *_: told.append("made"))
        told.append("stopped")

    with studio.busy:
        waiting = threading.Thread(target=work)
        waiting.start()
        assert waits.wait(10)
        while visit.stop.is_set():  # it is cleared when the work is asked for
            pass
        waiting.join(0.2)
        assert waiting.is_alive() and told == []
        visitors.leave("someone")
    waiting.join(60)
    assert told == ["stopped"]


def test_a_bank_of_a_visit_is_seen_by_nobody_else(studio, visitors, visit):
    assert studio.keep(visit, "  ") == "My-pan"
    assert [caption for _, caption in studio.gallery(visit)] == [f"My-pan: {visit.motion.words}"]
    other = visitors.of("other")
    assert studio.gallery(other) == [] and other.shown == []
    with pytest.raises(KeyError):
        studio.choose(other, "My-pan")


def test_a_shared_bank_is_seen_by_all_but_a_clip_is_not(studio, tmp_path, taken):
    bank = MotionBank(tmp_path / "bank", create=True)
    visitors = Visits(tmp_path / "visits", bank)
    one, other = visitors.of("one"), visitors.of("other")
    one.motion = taken
    drawn(one.films, taken, "film.mp4", Motion.film)  # on the frames of the clip
    studio.keep(one, "pan")
    assert list(MotionBank(tmp_path / "bank")) == ["pan"]
    assert len(studio.gallery(other)) == 1
    chosen = studio.choose(other, "pan")
    assert chosen.frames is None and one.films != other.films
    assert not list(other.films.glob("*"))


def test_the_gallery_finds_by_words_and_leaves_out_what_is_damaged(studio, visit):
    studio.keep(visit, "pan")
    visit.bank["noise"] = make_field_entry(words="still")
    visit.bank["optimised"] = make_entry()  # without a motion to draw
    (Path(visit.bank.path) / "entries" / "damaged.safetensors").write_bytes(b"no")
    studio.gallery(visit)
    assert visit.shown == ["pan", "noise"], "the newest first"
    studio.gallery(visit, "pan left")
    assert visit.shown[0] == "pan"
    with pytest.raises(ValueError, match="wiggles"):
        studio.gallery(visit, "wiggles")


@pytest.mark.parametrize("name", ["../up", "a/b", "/etc/x", "a b", "\0"])
def test_no_name_leads_out_of_the_bank(studio, visit, name):
    before = sorted(visit.folder.rglob("*"))
    with pytest.raises(ValueError, match="name"):
        studio.keep(visit, name)
    assert sorted(visit.folder.rglob("*")) == before


def test_a_name_that_is_taken_is_refused(studio, visit):
    studio.keep(visit, "pan")
    visit.motion = Motion("pan", make_field_entry(), None)
    with pytest.raises(ValueError, match="The bank has a motion pan already"):
        studio.keep(visit, "pan")


def test_a_visit_ends_some_time_after_its_page_was_closed(tmp_path):
    visitors = Visits(tmp_path / "visits")
    gone, back, there = (visitors.of(key) for key in ("gone", "back", "there"))
    for key in ("gone", "back"):
        visitors.leave(key)
        visitors.of(key).left = time.monotonic() - visits.KEPT - 1
    assert visitors.of("there") is there and len(visitors) == 1
    assert not gone.folder.exists() and not back.folder.exists() and there.folder.exists()
    visitors.leave("there")
    assert there.stop.is_set() and visitors.of("there") is there and there.left is None


def test_of_too_many_visits_those_of_closed_pages_end_first(tmp_path, monkeypatch):
    monkeypatch.setattr(visits, "MOST", 3)
    visitors = Visits(tmp_path / "visits")
    still_open = visitors.of("open")
    for number in range(6):
        visitors.of(f"gone{number}")
        visitors.leave(f"gone{number}")
    assert len(visitors) == 3 and still_open.folder.is_dir() and visitors.of("open") is still_open


def test_of_too_many_visits_the_quietest_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(visits, "MOST", 3)
    visitors = Visits(tmp_path / "visits")
    first, second = visitors.of("first"), visitors.of("second")
    for key in ("third", "first", "fourth", "fifth"):
        visitors.of(key)
    assert not second.folder.exists() and second.stop.is_set()
    assert visitors.of("first") is first and first.folder.exists()


def test_gradio_is_asked_for_in_one_sentence_and_not_imported_for_help():
    script = (
        "import sys; sys.modules['gradio'] = None; import importlib.util as u; find = u.find_spec;"
        "u.find_spec = lambda name, *of: None if name == 'gradio' else find(name, *of);"
        "from trainers.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "app"], capture_output=True, text=True, timeout=60
    )
    wanted = "gradio is not installed, and this needs it: pip install 'ditflow[app]'."
    assert (done.returncode, done.stderr) == (2, f"ditflow: {wanted}\n")
    told = subprocess.run(
        [sys.executable, "-m", "trainers.cli", "app", "--help"], capture_output=True, text=True
    )
    assert told.returncode == 0 and "example: ditflow app" in told.stdout
