"""A hook of mkdocs: the site has the files of the repository under their own paths.

A relative link in README.md or in docs/ then works both on GitHub and on the site. A file that is
linked to and is no page, such as a picture or a module, is copied as it is.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every page of the repository, what the pages link to, and what the theme brings."""
    pages = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    wanted = {page.relative_to(ROOT).as_posix() for page in pages}
    wanted |= {target for page in pages for target in _linked(page)}
    theme = [file for file in files if not _is_ours(file)]
    ours = [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in sorted(wanted)]
    return Files([*theme, *ours])


def _is_ours(file: File) -> bool:
    return file.src_dir is not None and Path(file.src_dir).resolve() == ROOT / "docs"


def _linked(page: Path) -> set[str]:
    """The files of the repository that a page links to, by their path from its root."""
    folder = PurePosixPath(page.relative_to(ROOT).parent)
    links = (normpath(folder / link) for link in LINK.findall(page.read_text(encoding="utf-8")))
    return {link for link in links if (ROOT / link).is_file()}
