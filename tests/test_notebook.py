"""The notebook runs from top to bottom in a fresh kernel, and what is stored of it is true."""

from __future__ import annotations

import ast
import re
import resource
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from docs.figures.notebook import FORMAT, NOTEBOOK, PICTURE, executed, picture_of, plain
from tests.pages import ROOT
from trainers.pretraining.starter import STARTERS

STORED = nbformat.read(NOTEBOOK, as_version=4)
CODE = [index for index, cell in enumerate(STORED.cells) if cell.cell_type == "code"]
PROSE = "\n".join(cell.source for cell in STORED.cells if cell.cell_type == "markdown")


@pytest.fixture(scope="module")
def run() -> tuple[NotebookNode, float]:
    """The notebook, run in an empty folder, and the seconds of a processor that it took."""
    began = spent()
    notebook = executed(nbformat.read(NOTEBOOK, as_version=4))
    return notebook, spent() - began


def spent() -> float:
    """Seconds of processors of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def kinds(cell: NotebookNode) -> list[object]:
    return [(output.output_type, sorted(output.get("data", ()))) for output in cell.outputs]


def said(notebook: NotebookNode, tag: str) -> str:
    """What the cell with this tag prints."""
    (cell,) = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def numbers(notebook: NotebookNode, tag: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d\d", said(notebook, tag))]


def test_it_runs_in_under_five_minutes(run):
    """No cell fails: `executed` raises where one does. The clock would count what else runs."""
    assert 5 < run[1] < 300


@pytest.mark.parametrize("index", CODE)
def test_stored_outputs_are_those_of_a_run(run, index):
    now = run[0].cells[index]
    assert kinds(STORED.cells[index]) == kinds(now) and now.source == STORED.cells[index].source


def test_what_the_prose_says_is_so(run):
    """Of this run, and of the one that is stored. Videos of another machine differ by rounding,
    which their motion hardly feels.
    """
    for notebook in (run[0], STORED):
        still, *moved = numbers(notebook, "cosines")
        assert still < 0.3 and min(moved) > 0.7 and len(moved) == 2
        forth, back = numbers(notebook, "changes")
        assert forth > 0.8 > 0 > back, "reversed is the other way"
        assert said(notebook, "words").strip() == "pans right, zooms in"
        assert "removed without a trace: True" in said(notebook, "removed")
        assert "the same pixels: True" in said(notebook, "again")
        assert "camera: pans left\n" in said(notebook, "parts")
        assert "objects: the camera is still; one thing moves up" in said(notebook, "parts")
        assert said(notebook, "search").startswith("1.00  pan-left-slow")
        assert "drive" in said(notebook, "bank") and "['drive'] 39" in said(notebook, "starter")
    assert f"`starter`, with {len(STARTERS)} motions" in " ".join(PROSE.split())


def test_it_is_small_and_knows_no_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) <= 700_000
    told = re.sub(rf'"{FORMAT}": "[^"]*"', "", text)
    assert re.findall(r"(?<![\w.:/<])/(?:tmp|home|root|work|usr|var|Users)\b", told) == []
    assert str(ROOT) not in text and str(Path.home()) not in text
    assert set(STORED.metadata) == {"kernelspec", "language_info"}
    for number, index in enumerate(CODE, start=1):
        cell = STORED.cells[index]
        assert set(cell.metadata) <= {"tags"} and cell.execution_count == number


def test_its_code_can_be_read():
    lines = [line for cell in STORED.cells for line in cell.source.splitlines()]
    assert max(map(len, lines)) <= 100
    for index in CODE:
        source = re.sub(r"(?m)^!(?:.*\\\n)*.*$", "pass", STORED.cells[index].source)
        ast.parse(source)


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\(([^)\s]+)\)", PROSE)
    assert links and [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []


def test_readme_shows_its_picture():
    assert PICTURE.read_bytes() == picture_of(STORED)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert PICTURE.relative_to(ROOT).as_posix() in readme
    assert NOTEBOOK.relative_to(ROOT).as_posix() in readme


def test_terminal_text_is_stored_as_it_is_read():
    assert plain("\x1b[1ma\x1b[0m \r\n10%\r20%\nend") == "a\n20%\nend"
