"""The page of a gallery: escaped, well-formed, and with no request to the network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ditflow.visual import Card, Curve, Film, Gallery, Order, Panel, Picture, write_gallery
from tests.ditflow.visual.test_page import Elements, Planted

ORDERS = (Order("motion", "most motion"), Order("loss", "lowest loss", highest_first=False))


def written(folder: Path, gallery: Gallery) -> str:
    assert write_gallery(folder / "g.html", gallery) == (folder / "g.html").stat().st_size
    return (folder / "g.html").read_text(encoding="utf-8")


@pytest.fixture
def planted() -> Planted:
    return Planted()


@pytest.fixture
def page(tmp_path, planted) -> str:
    """Every text of every part would break out of markup."""
    text = planted.text
    card = Card(
        text(),
        text(),
        (text(), text()),
        Film("films/a.webp", 12, 1.5),
        Curve(text(), (2.0, 1.0)),
        text(),
        {"motion": 0.5},
        ((text(), text()),),
        text(),
        text(),
    )
    order = Order("motion", text())
    legend = (Panel(text(), pictures=(Picture(text(), b"wheel"),), notes=(text(),)),)
    return written(tmp_path, Gallery(text(), (card,), (order,), legend, (text(),)))


def test_text_is_escaped_and_arrives_whole(page, planted):
    elements = Elements(page)
    assert page.count("<script") == 1
    attributes = [value for _, found in elements.found for value in found.values() if value]
    arrived = "\n".join(elements.texts + attributes)
    assert len(planted) > 15 and [text for text in planted if text not in arrived] == []
    named = [name for _, found in elements.found for name in found if name.startswith("on")]
    assert named == []


def test_nothing_of_the_network_is_fetched(page):
    elements = Elements(page)
    assert [image["src"] for image in elements.all("img")][1:] == ["films/a.webp"] * 2
    policy = next(meta["content"] for meta in elements.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:; style-src")
    assert not re.search(r"https?:|@import|url\(", page)


def test_films_are_read_when_they_are_seen_and_say_what_they_are(tmp_path):
    card = Card("car", film=Film("films/a.webp", 3, 1.5))
    images = Elements(written(tmp_path, Gallery("g", (card,)))).all("img")
    assert [image["loading"] for image in images] == ["lazy", "lazy"]
    assert [image["alt"] for image in images] == ["motion of car", "colours of the motion of car"]


def test_measures_are_numbers_or_nothing(tmp_path):
    cards = (
        Card("a", measures={"motion": 0.25, "loss": float("nan")}),
        Card("b", measures={"motion": float("inf")}),
    )
    articles = Elements(written(tmp_path, Gallery("g", cards, ORDERS))).all("article")
    assert [(card["data-motion"], card["data-loss"]) for card in articles] == [
        ("0.25", ""),
        ("", ""),
    ]


def test_what_a_card_lacks_is_not_there(tmp_path):
    elements = Elements(written(tmp_path, Gallery("g", (Card("car", note="no motion"),))))
    found = {tag for tag, _ in elements.found}
    assert not found & {"img", "svg", "dl", "pre", "code", "details"}
    assert "car" in elements.texts and "no motion" in elements.texts
