"""The page: self-contained, escaped, well-formed."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from ditflow.visual import Panel, Row, Table, render_page, write_page

NASTY = '<script>alert("x")</script> & {braces} "quotes" \'single\''
VOID = {"meta", "img", "br"}


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

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def page() -> str:
    panel = Panel(NASTY, video=b"\x00mp4", picture=b"\x89png", notes=(NASTY, "cosine .5"))
    table = Table(NASTY, ("video", NASTY), (("plain", NASTY),))
    return render_page(NASTY, paragraphs=[NASTY], tables=[table], legend=Panel("legend", picture=b"wheel"), rows=[Row(NASTY, (panel, Panel("empty")))])


def test_text_is_escaped_and_arrives_whole(page):
    elements = Elements(page)
    assert len(elements.all("script")) == 1
    texts = [text for text in elements.texts if NASTY in text]
    assert len(texts) == 9  # title, heading, paragraph, caption, column, cell, row heading, panel, note
    assert elements.all("video")[0]["aria-label"] == NASTY


def test_videos_and_pictures_are_inside(page):
    elements = Elements(page)
    assert [video["src"] for video in elements.all("video")] == ["data:video/mp4;base64," + base64.b64encode(b"\x00mp4").decode()]
    assert [image["src"] for image in elements.all("img")] == ["data:image/png;base64," + base64.b64encode(part).decode() for part in (b"wheel", b"\x89png")]


def test_nothing_is_fetched(page):
    elements = Elements(page)
    sources = [value for _, attributes in elements.found for name, value in attributes.items() if name in ("src", "href", "poster", "srcset", "data")]
    assert sources and all(source.startswith("data:") for source in sources)
    assert not re.search(r"https?:|@import|url\(", page)
    assert elements.all("meta")[1]["content"].startswith("default-src 'none'")


def test_readable_in_light_and_dark(page):
    assert "color-scheme: light dark" in page and "prefers-color-scheme: dark" in page


def test_no_player_without_videos():
    assert 'id="toggle"' not in render_page("t", rows=[Row("r", (Panel("p"),))]).split("<script>")[0]


@pytest.mark.skipif(shutil.which("node") is None, reason="checks the script's syntax with node")
def test_script_parses(tmp_path, page):
    file = tmp_path / "page.js"
    file.write_text(page.split("<script>")[1].split("</script>")[0])
    subprocess.run(["node", "--check", str(file)], check=True)


def test_written_at_once_and_leaves_nothing_else(tmp_path, page):
    target = tmp_path / "index.html"
    write_page(target, "old")
    write_page(target, page)
    assert target.read_text(encoding="utf-8") == page
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]
