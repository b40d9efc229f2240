"""`ditflow report` in a real browser: what is planted stays text, videos share a clock and load
when seen, tables sort; it fits a phone, and a large run.
"""

from __future__ import annotations

import re

import pytest

from tests.browser import Opened, browser
from tests.runs import repeat_clip, write_run
from trainers.commands.report import main

pytestmark = pytest.mark.browser
PLANTED = (
    '<img src=x onerror="window.owned=1"></script><script>window.owned=1</script>" '
    "onclick='window.owned=1' {{ 7 * 7 }} &lt;"
)
CLIPS = (PLANTED, "pan-right", "zoom", "rotate", "pan-down", "last")
METHODS = ("backbone", "ditflow-latents")
MANY = (
    *(f"method-{index}" for index in range(10)),
    "ditflow-latents",
    *(f"method-{index}-zero-shot" for index in range(3)),
)
READY = "() => sight.size > 0 && [...sight].every(video => video.readyState >= 2)"
TIMES = "() => [...sight].map(video => video.currentTime)"


@pytest.fixture(scope="module")
def driver():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = write_run(
        tmp_path_factory.mktemp("run"),
        CLIPS,
        METHODS,
        ("caption", "scene"),
        prompt=f"clouds {PLANTED}",
    )
    assert main([str(folder)]) == 0
    return folder / "index.html"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("large"), ("clip-a",), MANY)
    repeat_clip(folder, [f"clip-{letter}" for letter in "bcdefgh"])
    assert main([str(folder)]) == 0
    return folder / "index.html"


def choose(page, kind: str) -> None:
    page.locator(".kinds label").get_by_text(kind, exact=True).click()


def to_the_videos(page) -> None:
    page.locator("section").first.evaluate("section => section.scrollIntoView()")
    page.wait_for_function(READY)


def test_what_is_planted_in_names_and_prompts_stays_text(driver, report):
    with Opened(driver, report) as opened:
        page = opened.page
        to_the_videos(page)
        section = page.locator("section").first
        section.locator("h2").click()
        assert section.locator("h2").text_content() == PLANTED
        assert section.locator("h3").first.text_content().endswith(f"clouds {PLANTED}")
        assert page.evaluate("window.owned") is None
        assert (
            page.evaluate("document.scripts.length") == 1
            and page.locator("[onclick], [onerror], img[src=x]").count() == 0
        )
        assert page.locator(".appendix tbody a").first.text_content() == PLANTED


def test_a_script_that_got_in_would_not_run(driver, report, tmp_path):
    """The second wall: the policy names our script by its sum."""
    forged = report.read_text(encoding="utf-8").replace(
        "<main>", "<main><script>window.owned = 1</script><b onclick='window.owned = 1'>b</b>", 1
    )
    (tmp_path / "forged.html").write_text(forged, encoding="utf-8")
    with Opened(driver, tmp_path / "forged.html") as opened:
        opened.page.locator("main > b").click()
        assert opened.page.evaluate("window.owned") is None
        assert len([text for text in opened.complaints if "Content Security Policy" in text]) == 2


def test_nothing_is_asked_for_and_nothing_is_complained_of(driver, report):
    with Opened(driver, report) as opened:
        to_the_videos(opened.page)
        opened.page.wait_for_timeout(300)
        assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
        assert len([url for url in opened.requests if url.startswith("file:")]) == 1
        assert opened.complaints == []


def test_videos_play_together_and_start_again_together(driver, report):
    with Opened(driver, report) as opened:
        page = opened.page
        to_the_videos(page)
        assert page.evaluate("sight.size") >= 5
        before = page.evaluate("clock.at")
        page.wait_for_function("before => Math.abs(clock.at - before) > 0.3", arg=before)
        for place in (0.2, 2.9):  # from the second place the loop ends and begins again
            page.evaluate("place => { clock.at = place; }", place)
            page.wait_for_function(
                "place => (clock.at - place + loop()) % loop() > 0.6"
                " && (clock.at - place + loop()) % loop() < 2",
                arg=place,
            )
            page.wait_for_function(
                "() => [...sight].every(v => !v.paused && !v.seeking"
                " && Math.abs(v.currentTime - clock.at) < 0.125)"
            )  # one frame


def test_the_slider_stops_and_sets_videos_and_motion(driver, report):
    with Opened(driver, report) as opened:
        page = opened.page
        to_the_videos(page)
        page.locator("#time").fill("1.7")
        page.wait_for_function(
            "() => [...sight].every(video => video.paused"
            " && Math.abs(video.currentTime - 1.7) < 0.01)"
        )
        assert page.locator("#toggle").inner_text() == "Play"
        page.wait_for_timeout(200)
        assert max(page.evaluate(TIMES)) < 1.71
        moved = page.locator("section .panels .film img").first.evaluate(
            "image => image.style.transform"
        )
        tile = int(1.7 / 3.125 * 6)  # 25 frames at 8 a second, and 6 pairs of latent frames
        assert float(re.findall(r"-?[\d.]+", moved)[0]) == pytest.approx(-100 * tile / 6, abs=0.01)
        page.locator("#toggle").click()
        page.wait_for_function("() => [...sight].every(video => !video.paused) && clock.at !== 1.7")


def test_only_videos_in_sight_hold_data(driver, report):
    with Opened(driver, report, height=600) as opened:
        page = opened.page
        choose(page, "all")
        to_the_videos(page)
        assert page.evaluate("document.querySelectorAll('video').length") == len(CLIPS) * 5
        first = page.locator("section").first.locator("video").first
        last = page.locator("section").last.locator("video").last
        assert first.get_attribute("src") and last.get_attribute("src") is None
        last.scroll_into_view_if_needed()
        page.wait_for_function(
            "() => [...document.querySelectorAll('video')].at(-1).readyState >= 2"
            " && !document.querySelector('video').src"
        )
        assert page.evaluate(
            "[...document.querySelectorAll('video')].filter(video => video.src).length"
            " === sight.size"
        )


def column(page, table: str, index: int) -> list[str]:
    return page.locator(f"{table} tbody tr").evaluate_all(
        f"rows => rows.map(row => row.cells[{index}].dataset.value"
        f" ?? row.cells[{index}].textContent.trim())"
    )


def test_a_table_sorts_by_numbers_both_ways_with_unknown_ones_last(driver, report):
    with Opened(driver, report) as opened:
        page = opened.page
        page.locator(".appendix summary").click()
        header = page.locator(".appendix thead th", has_text="Leakage")
        index = header.evaluate("header => header.cellIndex")
        for direction in ("descending", "ascending"):
            header.locator("button").click()
            values = column(page, ".appendix", index)
            known = [float(value) for value in values if value != "–"]
            assert header.get_attribute("aria-sort") == direction
            assert (
                known == sorted(known, reverse=direction == "descending")
                and values[len(known) :] == ["–", "–"]
                and len(set(known)) > 10
            )
        page.locator(".appendix thead th button").first.focus()
        page.keyboard.press("Enter")  # the first column begins with A
        names = column(page, ".appendix", 0)
        assert (
            names[4:] == sorted(names[4:])
            and set(names) == set(CLIPS)
            and header.get_attribute("aria-sort") is None
        )
        page.locator(".appendix thead th button", has_text="Method").click()
        assert column(page, ".appendix", 1) == ["ditflow-latents"] * 12 + ["backbone"] * 12


def test_a_row_leads_to_its_clip(driver, report):
    with Opened(driver, report) as opened:
        page = opened.page
        page.locator(".appendix summary").click()
        page.locator(".appendix tbody a", has_text="rotate").first.click()
        page.wait_for_function(
            "() => { const top = document.getElementById('clip-4').getBoundingClientRect().top;"
            " return top >= 0 && top < 120; }"
        )


def test_what_is_looked_for_is_shown_alone(driver, report):
    with Opened(driver, report) as opened:
        page = opened.page
        sections = page.locator("section:visible")
        page.locator("#find").fill("ROT")
        assert (
            sections.locator("h2").all_text_contents() == ["rotate"]
            and page.locator("#found").inner_text() == "1 of 6 clips"
        )
        choose(page, "scene")
        assert page.locator("section:visible .group:visible").count() == 1
        page.locator(".choose summary").click()
        page.locator(".choose label", has_text="backbone").click()
        assert page.locator(
            "section:visible .panels .panel:visible strong"
        ).all_text_contents() == ["ditflow-latents"]
        page.locator("#find").fill("")
        choose(page, "all")
        assert sections.count() == len(CLIPS) and page.locator("#found").inner_text() == ""


def test_what_stays_the_same_is_not_written_again(driver, report):
    """A screen reader may read aloud what is written."""
    with Opened(driver, report) as opened:
        page = opened.page
        to_the_videos(page)
        page.evaluate("""() => {
            window.written = [];
            const note = changes => changes.forEach(change => written.push(change.target.id));
            const watched = { childList: true, characterData: true, subtree: true };
            new MutationObserver(note).observe(document.querySelector(".player"), watched);
        }""")
        page.wait_for_function("() => written.length > 3")
        assert (
            set(page.evaluate("written")) == {"clock"}
            and page.locator("#clock").evaluate("clock => clock.tagName") == "SPAN"
        )
        page.locator("#toggle").click()
        page.wait_for_function("() => written.includes('toggle')")
        page.evaluate("() => { written.length = 0; }")
        page.wait_for_timeout(300)
        assert page.evaluate("written") == []


def shown_kinds(page) -> set[str]:
    return set(
        page.locator("section:visible .group:visible").evaluate_all(
            "groups => groups.map(group => group.dataset.kind)"
        )
    )


def wait_until_on_top(page, anchor: str) -> None:
    """The place is just below the bar of the player, and the clip is named in it."""
    page.wait_for_function(
        """anchor => {
            const box = element => element.getBoundingClientRect();
            const target = document.getElementById(anchor);
            const below = box(target).top - box(document.querySelector(".player")).bottom;
            const section = target.closest("section");
            return below >= 0 && below < 80 && by("clip").value === section.id;
        }""",
        arg=anchor,
    )


@pytest.mark.parametrize("width", [400, 1280])
def test_in_a_large_run_one_kind_is_shown_and_every_clip_is_one_choice_away(driver, large, width):
    with Opened(driver, large, width=width) as opened:
        page = opened.page
        to_the_videos(page)
        assert (
            shown_kinds(page) == {"subject"} and page.locator("#found").inner_text() == ""
        )  # zero-shot methods have no videos of captions
        assert page.locator("section").first.locator(".panel:visible").count() == len(MANY) + 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for clip in ("clip-h", "clip-c"):
            page.locator("#clip").select_option(clip)
            wait_until_on_top(page, page.locator("section", has_text=clip).get_attribute("id"))
        choose(page, "scene")
        assert shown_kinds(page) == {"scene"}
        choose(page, "all")
        assert shown_kinds(page) == {"caption", "subject", "scene"}


@pytest.mark.parametrize("width", [400, 1000, 1280])
@pytest.mark.parametrize(("kind", "off"), [("subject", 0), ("subject", 11), ("all", 0)])
def test_a_clip_has_its_height_before_it_is_laid_out(driver, large, width, kind, off):
    """So that the scroll bar is true. Panels grow with the window until there is room for one more
    in a row, hence a fifth.
    """
    with Opened(driver, large, width=width) as opened:
        page = opened.page
        choose(page, kind)
        page.locator(".choose input").evaluate_all(
            f"boxes => boxes.slice(0, {off}).forEach(box => box.click())"
        )
        skipped, foreseen, real = page.locator("section").last.evaluate("""section => {
            const auto = { contentVisibilityAuto: true }, foreseen = section.offsetHeight;
            const skipped = !section.querySelector("h2").checkVisibility(auto);
            section.style.contentVisibility = "visible";
            return [skipped, foreseen, section.offsetHeight];
        }""")
        assert skipped and 0.8 < foreseen / real < 1.2


def test_a_link_to_what_is_filtered_out_shows_it(driver, large):
    with Opened(driver, large) as opened:
        page = opened.page
        to_the_videos(page)
        page.locator("#find").fill("clip-b")
        assert (
            page.locator("section:visible").count() == 1
            and page.locator("#found").inner_text() == "1 of 8 clips"
        )
        page.locator("#clip").select_option("clip-f")
        wait_until_on_top(page, "clip-6")
        assert (
            page.locator("#find").input_value() == ""
            and page.locator("section:visible").count() == 8
            and shown_kinds(page) == {"subject"}
        )
        page.locator(".appendix summary").click()
        row = page.locator(".appendix tbody tr", has_text="clip-d").filter(has_text="scene").first
        for words in ("clip-b", "no such clip"):  # the second time the address is the same
            page.locator("#find").fill(words)
            row.locator("a").click()
            wait_until_on_top(page, "clip-4-3")
            assert shown_kinds(page) == {"scene"} and page.locator("section:visible").count() == 8


def test_an_address_with_a_clip_opens_there(driver, large):
    with Opened(driver, large) as opened:
        opened.page.goto(f"{large.resolve().as_uri()}#clip-7-1")
        wait_until_on_top(opened.page, "clip-7-1")
        assert shown_kinds(opened.page) == {"caption"}


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_and_can_be_read(driver, report, width, scheme):
    """No sideways scrolling of the page, and texts with a contrast of at least 4.5 to 1 (WCAG
    AA).
    """
    contrast = """selector => {
        const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255)
            .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        let ground = document.querySelector(selector), text = getComputedStyle(ground).color;
        const fill = element => getComputedStyle(element).backgroundColor;
        while (ground && /rgba\\(.*, 0\\)|transparent/.test(fill(ground)))
            ground = ground.parentElement;
        const [a, b] = [light(text), light(fill(ground || document.body))].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    }"""
    with Opened(driver, report, width=width, color_scheme=scheme) as opened:
        page = opened.page
        to_the_videos(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for selector in (
            "h1",
            "p",
            "caption",
            "td",
            "tbody th",
            "thead button",
            "#toggle",
            ".numbers dt",
            ".numbers dd",
            ".note",
            ".kind",
            ".kinds label:has(:checked)",
            ".pictures span",
        ):
            assert page.evaluate(contrast, selector) >= 4.5, selector
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 22, 25)"
        assert dark is (scheme == "dark")


def test_who_wants_less_motion_starts_it_himself(driver, report):
    with Opened(driver, report, reduced_motion="reduce") as opened:
        page = opened.page
        to_the_videos(page)
        page.wait_for_timeout(300)
        assert page.locator("#toggle").inner_text() == "Play" and set(page.evaluate(TIMES)) == {0}
        page.locator("#toggle").click()
        page.wait_for_function("() => [...sight].every(video => video.currentTime > 0)")
