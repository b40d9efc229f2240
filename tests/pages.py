"""The Markdown pages of the repository, and the blocks of code that they show."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))
}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in this language."""
    fence = rf"^```{language}\n(.*?)^```$"
    return re.findall(fence, PAGES[page], flags=re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    """The lines of a page's sh blocks, continued lines joined and comments left out."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if line.strip()]
