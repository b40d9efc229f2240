"""The documentation builds without a warning, and everything that a page names exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
SHORT = 100  # columns; tables, code and addresses cannot be broken


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built with warnings as errors: a broken link or a missing reference is one."""
    folder = tmp_path_factory.mktemp("site")
    arguments = ["build", "--strict", "--quiet", "-f", "docs/site/mkdocs.yml", "-d", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_on_the_site(site):
    pages = {"index.html" if page == "README.md" else f"{page[:-3]}.html" for page in PAGES}
    assert [page for page in sorted(pages) if not (site / page).is_file()] == []


@pytest.mark.parametrize(
    "module",
    [
        "ditflow",
        "ditflow.bank",
        "ditflow.models",
        "ditflow.metrics",
        "ditflow.motion",
        "ditflow.visual",
    ],
)
def test_public_names_are_in_the_reference(site, module):
    from importlib import import_module

    page = (site / "docs" / "reference.html").read_text(encoding="utf-8")
    described = {name.rpartition(".")[2] for name in re.findall(r'id="(ditflow[\w.]+)"', page)}
    public = {name for name in import_module(module).__all__ if not name.startswith("_")}
    assert public - described == set()


def anchors(text: str) -> set[str]:
    """The anchors that GitHub and the site give to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"\s", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Relative links and their anchors, as GitHub resolves them."""
    broken = []
    for link in LINK.findall(PAGES[page]):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if link.startswith("http"):
            continue
        if not target.is_file():
            broken.append(link)
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES)
def test_prose_is_wrapped(page):
    text = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in text.splitlines() if not line.startswith(("|", "    ", "#"))]
    assert [line for line in lines if len(line) > SHORT and " " in line.strip()] == []


def test_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) < 250


FOLDERS = r"configs|checkpoints|ditflow|datamodules|trainers|tests|docs|\.ci"
NAMED = re.compile(rf"(?<![\w$/.-])(?:(?:{FOLDERS})/[\w./-]*\w|[A-Z]+\.md)")
COMMENTED = {
    file.relative_to(ROOT).as_posix(): "\n".join(
        line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")
    )
    for file in (*sorted((ROOT / "configs").rglob("*.yaml")), ROOT / "docs/site/mkdocs.yml")
}
TEXTS = PAGES | COMMENTED | {"Makefile": (ROOT / "Makefile").read_text(encoding="utf-8")}


@pytest.mark.parametrize("name", TEXTS)
def test_named_files_exist(name):
    """Files that a page, a recipe or the head of a configuration names by their path.

    A recipe of CONTRIBUTING.md shows a file that is not there yet.
    """
    shown = re.findall(r"`([\w/]+\.py)`:\n\n```python", TEXTS[name])
    named = set(NAMED.findall(TEXTS[name])) - set(shown)
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_modules_that_are_run_exist():
    modules = set(re.findall(r"-m ((?:tests|trainers)[\w.]+)", "\n".join(TEXTS.values())))
    assert modules
    assert [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").is_file()] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "BENCHMARKS.md"])
def test_make_targets_exist(page):
    targets = set(re.findall(r"^(\w+):", TEXTS["Makefile"], flags=re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)(?=`|\s+#)", PAGES[page]))
    assert named and named - targets == set()


def test_table_of_models_is_made_from_the_presets():
    from ditflow.models.presets.table import table

    marked = re.search(r"<!-- models.*?-->\n\n(.*?)\n\n<!-- end", PAGES["README.md"], re.DOTALL)
    assert marked[1] == table()


def test_what_was_run_is_made_from_the_tests_and_the_presets():
    from docs.site.models import page

    text = PAGES["docs/models.md"]
    marked = re.search(r"<!-- run.*?-->\n\n(.*?)\n\n<!-- end", text, re.DOTALL)
    assert marked[1] == page()


def test_the_map_shows_the_folders_that_there_are():
    """Every folder of code and configurations, by its place in the tree; others are left out."""
    drawn, above = set(), {}
    for indent, name in re.findall(r"^( *)([\w-]+/)  +\S", PAGES["CONTRIBUTING.md"], re.MULTILINE):
        above[len(indent)] = above.get(len(indent) - 2, "") + name
        drawn.add(above[len(indent)])
    assert [folder for folder in sorted(drawn) if not (ROOT / folder).is_dir()] == []
    code = {
        f"{file.parent.relative_to(ROOT).as_posix()}/"
        for top in ("ditflow", "datamodules", "trainers", "configs", "docs")
        for file in (ROOT / top).rglob("*.*")
        if file.suffix in (".py", ".yaml", ".md", ".html")
    }
    assert code - drawn == set()
