"""A gallery in a real browser: it moves, filters and sorts, by keyboard alone, in light and dark,
at phone width, and with thousands of entries.
"""

from __future__ import annotations

import pytest

from ditflow.bank import MotionBank
from ditflow.visual import Card, Film, Gallery, Order, write_gallery
from tests.browser import Opened, browser
from tests.ditflow.bank.entries import make_entry, make_field_entry
from tests.ditflow.bank.search.test_search import MOTIONS, fill
from trainers.commands.bank.command import main
from trainers.report.films import MOMENTS, film_of

pytestmark = pytest.mark.browser
PLANTED = '<img src=x onerror="window.owned=1"></script><script>window.owned=1</script>'
MANY = 2000
SHOWN = "[...document.querySelectorAll('.card:not([hidden]) h2')].map(node => node.textContent)"
PLACE = "getComputedStyle(document.querySelector('.film img')).transform"
FOCUS = """(() => { const node = document.activeElement;
    return [node.id, node.tagName, getComputedStyle(node).outlineStyle]; })()"""
GROUND = """selector => {
    const node = document.querySelector(selector), clear = "rgba(0, 0, 0, 0)";
    let ground = node;
    while (getComputedStyle(ground).backgroundColor === clear) ground = ground.parentElement;
    return [getComputedStyle(node).color, getComputedStyle(ground).backgroundColor];
}"""
BOXES = """[...document.querySelector(".films").querySelectorAll(".film")].map(box => {
    const own = box.getBoundingClientRect(), image = box.firstElementChild.getBoundingClientRect();
    return [own.height, image.height, own.top - image.top];
})"""
LAID_OUT = """[...document.querySelectorAll(".told")].filter(
    node => node.checkVisibility({contentVisibilityAuto: true})).length"""


@pytest.fixture(scope="module")
def driver():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    bank = fill(MotionBank(folder / "bank", create=True))
    bank["old"] = make_entry(2, prompt=PLANTED)
    bank["planted"] = make_field_entry(3, words=PLANTED, method=PLANTED, tags=(PLANTED,))
    assert main(["gallery", bank.path, "--out", str(folder / "out")]) == 0
    return folder / "out" / "index.html"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    (folder / "films").mkdir()
    (folder / "film.webp").write_bytes(film_of(MOTIONS["zoom"]))
    for index in range(MANY):  # a file each, so that each is read by itself
        (folder / "films" / f"{index}.webp").hardlink_to(folder / "film.webp")
    cards = [
        Card(
            f"entry-{index:04d}",
            ("pans left slowly", "zooms in", "rolls clockwise; one thing moves up")[index % 3],
            ("clip car.mp4, 25 frames of 64 x 64", f"prompt: red clouds {index}"),
            Film(f"films/{index}.webp", MOMENTS, 1.5),
            measures={"motion": (index * 7919 % MANY) / MANY},
            numbers=(("file", "14 kB"), ("motion", "20%")),
            settings="seed: 7\n" * 20,
            command=f"ditflow predict --bank bank --data.entries '[\"entry-{index:04d}\"]'",
        )
        for index in range(MANY)
    ]
    write_gallery(
        folder / "index.html", Gallery("many", tuple(cards), (Order("motion", "most motion"),))
    )
    return folder / "index.html"


def test_what_is_planted_stays_text_and_nothing_is_complained_of(driver, page):
    with Opened(driver, page) as opened:
        opened.page.locator(".told h2").last.scroll_into_view_if_needed()
        opened.page.wait_for_timeout(300)
        assert opened.page.evaluate("window.owned") is None
        assert opened.page.locator("[onerror], [onclick], img[src=x]").count() == 0
        assert opened.page.get_by_text(PLANTED).count() >= 3
        assert opened.complaints == []
        assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []


def test_films_move_in_steps_until_paused(driver, page):
    with Opened(driver, page) as opened:
        at = opened.page.evaluate(PLACE)
        opened.page.wait_for_function(f"at => {PLACE} !== at", arg=at)
        tile = opened.page.evaluate("document.querySelector('.film').clientWidth")
        opened.page.locator("#toggle").click()
        assert opened.page.locator("#toggle").inner_text() == "Play"
        at = opened.page.evaluate(PLACE)
        moved = -float(at.split(",")[4]) / tile if at != "none" else 0.0
        assert abs(moved - round(moved)) < 0.02 and 0 <= round(moved) < MOMENTS
        opened.page.wait_for_timeout(700)
        assert opened.page.evaluate(PLACE) == at
        opened.page.locator("#toggle").click()
        opened.page.wait_for_function(f"at => {PLACE} !== at", arg=at)


def test_who_wants_less_motion_starts_it_himself_and_sees_the_end(driver, page):
    with Opened(driver, page, reduced_motion="reduce") as opened:
        assert opened.page.locator("#toggle").inner_text() == "Play"
        width = opened.page.evaluate("document.querySelector('.film').clientWidth")
        at = opened.page.evaluate(PLACE)
        assert -float(at.split(",")[4]) / width == pytest.approx(MOMENTS - 1, abs=0.05)
        opened.page.locator("#toggle").click()
        opened.page.wait_for_function(f"at => {PLACE} !== at", arg=at)


def test_both_halves_of_a_film_are_seen(driver, page):
    """The picture is as high as two tiles: the lower one is moved up into its box."""
    with Opened(driver, page) as opened:
        opened.page.wait_for_function("document.querySelector('.flow img').naturalWidth > 0")
        boxes = opened.page.evaluate(BOXES)
        (height, whole, above), (_, lower, below) = boxes
        assert whole == pytest.approx(2 * height, abs=2) == lower
        assert above == pytest.approx(0, abs=1) and below == pytest.approx(height, abs=1)


def test_filter_and_sort_by_keyboard_alone(driver, page):
    with Opened(driver, page) as opened:
        shown, keys = opened.page, opened.page.keyboard
        everything = shown.evaluate(SHOWN)
        keys.press("/")
        assert shown.evaluate(FOCUS)[0] == "find" and shown.evaluate(FOCUS)[2] == "solid"
        keys.type("pans left")
        assert shown.evaluate(SHOWN) == ["left", "left-slowly"]
        assert shown.locator("#found").inner_text() == f"2 of {len(everything)} entries"
        keys.type(" nothing")
        assert shown.evaluate(SHOWN) == []
        keys.press("Control+A")
        keys.press("Delete")
        assert shown.evaluate(SHOWN) == everything
        keys.press("Tab")
        assert shown.evaluate(FOCUS)[0] == "order"
        keys.type("most motion")
        keys.press("Enter")
        most = shown.evaluate(SHOWN)
        assert most.index("left") < most.index("left-slowly") < most.index("still")
        assert most[-1] == "old"  # which has no motion
        for _ in range(3):
            if shown.evaluate(FOCUS)[0] == "turn":
                break
            keys.press("Tab")
        keys.press("Space")
        least = shown.evaluate(SHOWN)
        assert least[0] == "still" and least[-1] == "old" and sorted(least) == sorted(everything)
        keys.press("Tab")
        assert shown.evaluate(FOCUS)[0] == "toggle"
        keys.press("Tab")
        assert shown.evaluate(FOCUS)[1:] == ["SUMMARY", "solid"]
        keys.press("Enter")
        assert shown.locator(".card details[open] pre").text_content().startswith("clip_sha256")
        keys.press("Tab")
        while shown.evaluate(FOCUS)[1] != "BUTTON":
            keys.press("Tab")
        keys.press("Enter")
        chosen = shown.evaluate("getSelection().toString()")
        assert chosen.startswith("ditflow predict") and '["still"]' in chosen


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_and_can_be_read(driver, page, width, scheme):
    with Opened(driver, page, width, 844, color_scheme=scheme) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width
        for words in ("h1", ".words", ".told p", ".card dd", ".card code", ".legend span"):
            ink, ground = opened.page.evaluate(GROUND, words)
            assert contrast(ink, ground) >= 4.5, words  # as WCAG asks of text


def test_thousands_of_entries(driver, many):
    """Nothing that is out of sight is laid out or read: work does not grow with the bank."""
    with Opened(driver, many) as opened:
        shown = opened.page
        shown.wait_for_function("document.querySelector('#found').textContent === '2000 entries'")
        shown.wait_for_timeout(300)
        assert 0 < len(set(opened.requests)) < MANY / 4
        assert 0 < shown.evaluate(LAID_OUT) < MANY / 4
        shown.locator("#find").fill("zooms clouds")
        assert shown.locator("#found").inner_text() == f"{len(range(1, MANY, 3))} of 2000 entries"
        shown.locator("#find").fill("")
        before = shown.evaluate(SHOWN)
        shown.locator("#order").select_option("motion")
        after = shown.evaluate(SHOWN)
        assert sorted(after) == before and len(after) == MANY
        assert [int(name[-4:]) * 7919 % MANY for name in after] == list(range(MANY - 1, -1, -1))
        assert 0 < shown.evaluate(LAID_OUT) < MANY / 4
        assert len(set(opened.requests)) < MANY / 4


def contrast(one: str, other: str) -> float:
    """Of two colours "rgb(r, g, b)", as WCAG 2 defines it."""

    def light(colour: str) -> float:
        coded = (float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
        linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in coded)
        weights = (0.2126, 0.7152, 0.0722)
        return 0.05 + sum(w * part for w, part in zip(weights, linear, strict=True))

    high, low = sorted((light(one), light(other)), reverse=True)
    return high / low
