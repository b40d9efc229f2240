"""The page: self-contained, escaped, well-formed."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy
import pytest

from ditflow.resources import PACKAGE
from ditflow.visual import (
    Cell,
    Chart,
    Curve,
    Group,
    Mark,
    Page,
    Panel,
    Picture,
    Section,
    Table,
    write_page,
)
from ditflow.visual.rendering import COLOURS

NASTY = '</script><script>alert("x")</script> & {braces} {{ "jinja" }} "quotes" \'single\''
VOID = {"meta", "img", "br", "input", "line"}
SCRIPT, STYLE, OWN = (
    (PACKAGE / "visual" / "templates" / name).read_text(encoding="utf-8")
    for name in ("page.js", "base.css", "page.css")
)
TO_CONES = numpy.array(
    [
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    ]
)
FROM_CONES = numpy.array(
    [
        (0.2104542553, 0.793617785, -0.0040720468),
        (1.9779984951, -2.428592205, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.808675766),
    ]
)


class Elements(HTMLParser):
    """Collects elements, checks that what opens closes, and gathers text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def written(folder, page: Page) -> str:
    assert write_page(folder / "page.html", page) == (folder / "page.html").stat().st_size
    return (folder / "page.html").read_text(encoding="utf-8")


class Planted(list[str]):
    """Texts that would break out of markup, each with a number of its own."""

    def text(self) -> str:
        self.append(f"{NASTY} {len(self)}.")
        return self[-1]


@pytest.fixture
def planted() -> Planted:
    return Planted()


@pytest.fixture
def page(tmp_path, planted) -> str:
    """Every field of every part holds such a text."""
    text = planted.text
    curve = Curve(text(), (2.0, 1.0), Mark(0))
    pictures = (Picture(text(), b"\x89png", tiles=3),)
    panel = Panel(
        text(),
        b"\x00mp4",
        (1, 1),
        pictures,
        curve,
        ((text(), Cell(text(), 1.0)), (text(), Cell(text(), best=True))),
        shown=1,
        notes=(text(),),
    )
    group = Group((panel, Panel(text(), problem=text())), text(), text(), text())
    table = Table(
        text(),
        (text(), text()),
        ((Cell(text(), target="#" + text(), mark=Mark(13)), text()),),
        (text(), text()),
    )
    legend = (Panel(text(), pictures=(Picture(text(), b"wheel"),), notes=(text(),)),)
    above = {
        "paragraphs": (text(),),
        "facts": ((text(), text()),),
        "tables": (table,),
        "charts": (Chart(text(), text(), (curve,)),),
        "legend": legend,
    }
    chosen = {
        "kinds": (kind := text(),),
        "kind": kind,
        "labels": ((text(), Mark(0)),),
        "appendix": (Table(text(), (text(),), ()),),
    }
    return written(
        tmp_path,
        Page(
            text(),
            (section for section in [Section(text(), text(), panel, (group,))]),
            **above,
            **chosen,
        ),
    )


def test_text_is_escaped_and_arrives_whole(page, planted):
    elements = Elements(page)
    assert len(elements.all("script")) == 1 and page.count("<script") == 1
    attributes = [
        unquote(value) for _, found in elements.found for value in found.values() if value
    ]
    arrived = "\n".join(elements.texts + attributes)
    assert len(planted) > 30 and [text for text in planted if text not in arrived] == []


def test_the_script_is_ours_alone_and_named_by_its_sum(page):
    assert page.split("<script>")[1].split("</script>")[0] == SCRIPT
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = Elements(page).all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy
    assert not [
        name
        for _, attributes in Elements(page).found
        for name in attributes
        if name.startswith("on")
    ]


def test_videos_and_pictures_are_inside(page):
    elements = Elements(page)
    assert [video["data-src"] for video in elements.all("video")] == [
        "data:video/mp4;base64," + base64.b64encode(b"\x00mp4").decode()
    ] * 2
    assert all(
        "src" not in video for video in elements.all("video")
    )  # a video is loaded when it comes into sight
    pictures = [
        "data:image/png;base64," + base64.b64encode(part).decode()
        for part in (b"wheel", b"\x89png", b"\x89png")
    ]
    assert [image["src"] for image in elements.all("img")] == pictures


def test_nothing_is_fetched(page):
    elements = Elements(page)
    sources = [
        value
        for _, attributes in elements.found
        for name, value in attributes.items()
        if name in ("src", "href", "poster", "srcset", "data")
    ]
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"https?:|@import|url\(", page)


def test_readable_in_light_and_dark(page):
    assert "color-scheme: light dark" in page and "prefers-color-scheme: dark" in page
    assert STYLE + OWN in page


def test_what_cannot_be_shown_says_why_and_has_no_video(tmp_path):
    page = Elements(
        written(tmp_path, Page("t", [Section("s", "s", Panel("reference", problem="no file"), ())]))
    )
    assert page.all("video") == [] and "no file" in page.texts


def test_a_number_sorts_by_its_value_and_what_is_none_by_nothing(tmp_path):
    cells = (Cell("1.0 kB", 1000.0), Cell("–", None), Cell("?", float("nan")), "text")
    found = Elements(
        written(tmp_path, Page("t", [], tables=(Table("c", ("a", "b", "c", "d"), (cells,)),)))
    )
    assert [cell.get("data-value") for cell in found.all("th")[4:] + found.all("td")] == [
        "1000.0",
        None,
        "",
        None,
    ]


def test_a_video_says_what_it_is_to_who_cannot_see_it(tmp_path):
    """Its method alone would name dozens of videos."""
    groups = (Group((Panel("smm", b"v"),), "red clouds", "scene"), Group((Panel("moft", b"v"),)))
    found = Elements(
        written(tmp_path, Page("t", [Section("car", "car", Panel("Reference", b"v"), groups)]))
    )
    assert [video["aria-label"] for video in found.all("video")] == [
        "Reference, car",
        "smm, car, scene",
        "moft, car",
    ]


def test_nothing_that_changes_all_the_time_is_a_live_region(page):
    roles = {"status", "alert", "log", "timer", "marquee"}
    live = [
        attributes
        for name, attributes in Elements(page).found
        if name == "output" or "aria-live" in attributes or attributes.get("role") in roles
    ]
    assert [attributes["id"] for attributes in live] == [
        "found"
    ]  # which changes when something is looked for


def test_what_is_dashed_is_so_everywhere(tmp_path):
    mark = Mark(2, dashed=True)
    curve = Curve("x", (1.0, 0.5), mark)
    section = Section("s", "s", Panel("Reference"), (Group((Panel("x", curve=curve, mark=mark),)),))
    parts = {
        "tables": (Table("t", ("x",), ((Cell("x", mark=mark),),)),),
        "charts": (Chart("c", "a", (curve,)),),
        "labels": (("x", mark),),
    }
    found = Elements(written(tmp_path, Page("t", [section], **parts)))
    assert [dot["class"] for dot in found.all("i")] == ["dot c2 dashed"] * 3
    assert [line["class"] for line in found.all("path")] == [
        "c2 dashed",
        "leader c2 dashed",
        "c2 dashed",
    ]


def test_each_line_of_a_chart_is_named_at_its_end(tmp_path):
    found = Elements(
        written(
            tmp_path,
            Page(
                "t",
                [],
                charts=(
                    Chart("Losses", "time", (Curve("low", (1.0, 0.1)), Curve("high", (1.0, 0.9)))),
                ),
            ),
        )
    )
    assert [text for text in found.texts if text in ("low", "high")] == [
        "high",
        "high",
        "low",
        "low",
    ]  # as a title, and beside the line
    assert found.all("svg")[0]["aria-label"] == "Losses; from top to bottom at the end: high, low"


def test_colours_can_be_told_apart_and_from_the_ground():
    """In light and in dark: 0.1 in OKLab is several times what is just seen between large areas,
    and 3 to 1 is what WCAG asks of graphics.
    """
    for theme in STYLE.split("@media (prefers-color-scheme: dark)"):
        values = dict(re.findall(r"--(c\d+|card): (#\w{6})", theme))
        assert set(values) == {"card", *(f"c{index}" for index in range(COLOURS))}
        light = {name: linear(value) for name, value in values.items()}
        luminance = {
            name: colour @ (0.2126, 0.7152, 0.0722) + 0.05 for name, colour in light.items()
        }
        ground = luminance.pop("card")
        assert min(max(ground / own, own / ground) for own in luminance.values()) >= 3
        lab = numpy.array([oklab(light[name]) for name in luminance])
        distances = numpy.linalg.norm(lab[:, None] - lab, axis=-1) + 9 * numpy.eye(COLOURS)
        assert distances.min() > 0.1
    assert set(re.findall(r"\.c(\d+) { --c: var\(--c\1\) }", STYLE)) == {
        str(index) for index in range(COLOURS)
    }


def linear(colour: str) -> numpy.ndarray:
    """Red, green and blue of "#rrggbb" as light."""
    coded = numpy.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return numpy.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def oklab(light: numpy.ndarray) -> numpy.ndarray:
    """Ottosson, 2020: a space where distances are those that are seen."""
    return FROM_CONES @ numpy.cbrt(TO_CONES @ light)


@pytest.mark.skipif(shutil.which("node") is None, reason="checks the script's syntax with node")
@pytest.mark.parametrize("script", ["page.js", "gallery.js"])
def test_script_parses(script):
    subprocess.run(["node", "--check", str(PACKAGE / "visual" / "templates" / script)], check=True)


def test_sections_are_made_one_by_one_while_writing(tmp_path):
    """A page of thousands of videos is never whole in memory."""
    alive: list[int] = []

    def sections():
        for index in range(3):
            alive.append(index)
            yield Section(f"clip {index}", f"clip-{index}", Panel("reference"), ())

    page = Page("t", sections())
    assert alive == []
    assert written(tmp_path, page).count("<section") == 3 and alive == [0, 1, 2]


def test_written_at_once_and_leaves_nothing_else(tmp_path):
    def broken():
        yield Section("s", "s", Panel("reference"), ())
        raise RuntimeError("in the middle")

    whole = written(tmp_path, Page("t", []))
    with pytest.raises(RuntimeError, match="in the middle"):
        write_page(tmp_path / "page.html", Page("t", broken()))
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == whole
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
