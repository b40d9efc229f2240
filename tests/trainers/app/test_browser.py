"""The app in a real browser: the whole journey at phone and desktop width, in light and dark, the
brush, the queue, a stop, and the keyboard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ditflow import MotionBank
from ditflow.video import write_video
from tests.browser import Opened, browser
from tests.clips import ditflow
from tests.ditflow.bank.entries import make_field_entry
from tests.served import Served, served
from tests.trainers.commands.test_motion import panning
from tests.trainers.report.test_gallery_browser import GROUND, PLANTED, contrast

pytestmark = pytest.mark.browser
PATIENCE = 30_000  # milliseconds
STEPS = 40
WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
OF_NODE = GROUND.replace("document.querySelector(selector)", "selector")
FOCUS = """(() => { const node = document.activeElement, style = getComputedStyle(node);
    const part = node.closest('[id]:not([id^=component]):not(label)');
    return [node.innerText || node.ariaLabel || node.type || "", part ? part.id : "",
        style.outlineStyle !== "none" || style.boxShadow !== "none"]; })()"""


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> MotionBank:
    """A bank with an entry whose words a stranger wrote."""
    bank = MotionBank(tmp_path_factory.mktemp("shared") / "bank", create=True)
    bank["planted"] = make_field_entry(words=PLANTED, clip=PLANTED)
    return bank


@pytest.fixture(scope="module")
def app(bank, driver) -> Iterator[Served]:
    with served("--steps", str(STEPS), "--bank", bank.path) as running:
        yield running


@pytest.fixture(scope="module")
def pan(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("clips") / "pan.mp4"
    write_video(file, panning(9), 8)
    return file


@pytest.fixture
def visit(driver, app):
    """A page of the app. Nothing is asked of another machine, and no script fails."""
    opened: list[Opened] = []

    def visit(**options: Any) -> Any:
        opened.append(Opened(driver, app.url, **options))
        opened[-1].page.locator("#make").wait_for(timeout=PATIENCE)
        return opened[-1].page

    yield visit
    for one in opened:
        elsewhere = [url for url in one.requests if not url.startswith((app.url, "blob:", "data:"))]
        one.context.close()
        assert elsewhere == []
        assert [text for text in one.complaints if "rror" in text] == []


def says(page: Any, part: str, words: str) -> None:
    page.wait_for_function(
        "([part, words]) => document.querySelector(part).innerText.includes(words)",
        arg=[part, words],
        timeout=PATIENCE,
    )


def send(page: Any, clip: Path) -> None:
    page.set_input_files("#clip input[type=file]", clip)


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (390, "dark")], ids=["desktop", "phone"]
)
def test_the_whole_journey(visit, pan, bank, tmp_path, monkeypatch, capsys, width, scheme):
    page = visit(width=width, color_scheme=scheme)
    (tmp_path / "broken.mp4").write_bytes(pan.read_bytes()[:-900])
    send(page, tmp_path / "broken.mp4")
    says(page, "#note", "broken.mp4 was cut off")
    assert contrast(*page.evaluate(GROUND, "#note .wrong")) >= 4.5
    page.get_by_text("Drop Video Here").wait_for()  # for the next one
    send(page, pan)
    says(page, "#note", "Pans left")
    page.locator("#film video").wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="The motion in detail").click()
    page.locator("img[alt]").first.wait_for(state="attached")
    page.get_by_label("Name").fill(f"pan-{width}")
    page.get_by_role("button", name="Keep in the bank").click()
    says(page, "#kept", f"pan-{width} is in the bank.")
    assert f"pan-{width}" in bank
    page.get_by_role("tab", name="The bank").click()
    page.locator("#entries button", has_text=f"pan-{width}").click()
    says(page, "#note", "Pans left")
    page.locator("#prompt textarea").fill("a cat")
    page.get_by_role("button", name="Make the video").click()
    says(page, "#said", "Made with strength 1 and seed 0.")
    for part in ("#video", "#plain"):
        page.wait_for_function(
            "part => document.querySelector(part + ' video')?.videoWidth === 48", arg=part
        )
    page.get_by_label("number input for Strength").fill("0.5")
    page.get_by_role("button", name="Make the video").click()
    says(page, "#said", "Made with strength 0.5 and seed 0.")
    page.locator("#before video").wait_for(timeout=PATIENCE)
    assert page.evaluate(WIDE) <= 0, "nothing is wider than the screen"
    read = ("Give the motion", "Describe the video", "0 is none", "Made with", "Make the video")
    for words in (*read, "The bank", "The one before", "Download the video"):
        node = page.get_by_text(words).first.element_handle()
        ink, ground = page.evaluate(OF_NODE, node)
        assert contrast(ink, ground) >= 4.5, words
    with page.expect_download() as video:
        page.get_by_role("button", name="Download the video").click()
    with page.expect_download() as entry:
        page.get_by_role("button", name="Download the motion").click()
    video.value.save_as(tmp_path / "video.mp4")
    assert ditflow(monkeypatch, "video", "show", str(tmp_path / "video.mp4"), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["prompt"], told["strength"], told["entry"]) == ("a cat", 0.5, f"pan-{width}")
    (tmp_path / "bank" / "entries").mkdir(parents=True)
    entry.value.save_as(tmp_path / "bank" / "entries" / f"pan-{width}.safetensors")
    assert MotionBank(tmp_path / "bank").content_hash(f"pan-{width}") == told["entry_sha256"]


def test_the_brush_chooses_a_part(visit, pan, bank):
    page = visit()
    send(page, pan)
    says(page, "#note", "Pans left")
    page.get_by_role("button", name="Only a part of the picture").click()
    canvas = page.locator("#region canvas").first
    canvas.wait_for(timeout=PATIENCE)
    page.wait_for_timeout(1000)  # until the picture is in it
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x, y + 10, steps=5)
    page.mouse.up()
    page.wait_for_timeout(500)
    page.locator("#prompt textarea").fill("a cat")
    page.get_by_role("button", name="Make the video").click()
    says(page, "#said", "Made with strength 1")
    with page.expect_download() as entry:
        page.get_by_role("button", name="Download the motion").click()
    assert entry.value.suggested_filename == "pan-part.safetensors"
    (folder := Path(bank.path).parent / "part" / "entries").mkdir(parents=True)
    entry.value.save_as(folder / "pan-part.safetensors")
    moved = MotionBank(folder.parent)["pan-part"].field.displacement[-1].norm(dim=0) > 0
    assert 0.02 < moved.float().mean() < 0.6, "some of it, and not all"


def test_who_waits_sees_the_place_and_is_served_after_a_stop(visit, pan):
    """A stop ends the work of the first between two steps, a closed page that of the second."""
    first, second, third = visit(), visit(), visit()
    for page in (first, second, third):
        send(page, pan)
        says(page, "#note", "Pans left")
        page.locator("#prompt textarea").fill("a cat")
    first.get_by_role("button", name="Make the video").click()
    says(first, "#video", "steps")
    second.get_by_role("button", name="Make the video").click()
    says(second, "#video", "queue")
    first.get_by_role("button", name="Stop").click()
    says(first, "#said", "Stopped. Nothing of it is kept.")
    says(second, "#video", "steps")
    third.get_by_role("button", name="Make the video").click()
    second.close()
    says(third, "#said", "Made with strength 1")
    assert first.locator("#video video").count() == 0, "what was stopped shows no video"
    first.get_by_role("button", name="Make the video").click()
    says(first, "#said", "Made with strength 1")


def test_the_keyboard_reaches_all_of_it(visit, pan):
    page = visit()
    send(page, pan)
    says(page, "#note", "Pans left")
    reached, seen = [], []
    for _ in range(45):
        page.keyboard.press("Tab")
        words, part, ringed = page.evaluate(FOCUS)
        reached.append(f"{part} {words}")
        seen.append(ringed)
    said = "\n".join(reached)
    for wanted in ("clip", "A clip", "The motion in detail", "Keep in the bank", "prompt", "range"):
        assert wanted in said, said
    for wanted in ("Only a part of the picture", "More", "Make the video", "Stop"):
        assert wanted in said, said
    assert sum(seen) > 0.8 * len(seen), list(zip(reached, seen, strict=True))
    page.locator("#prompt textarea").focus()
    page.keyboard.type("a cat")
    page.keyboard.press("Enter")
    says(page, "#said", "Made with strength 1 and seed 0.")


def test_what_a_stranger_wrote_stays_text(visit):
    page = visit()
    page.get_by_role("tab", name="The bank").click()
    page.locator("#entries button", has_text="planted").click()
    says(page, "#note", "<img src=x onerror=")
    page.wait_for_timeout(300)
    assert page.evaluate("window.owned") is None
    assert page.locator("[onerror], img[src=x]").count() == 0
    page.get_by_label("Find").fill("wiggles")
    page.get_by_label("Find").press("Enter")
    says(page, "#kept", "wiggles")
