"""The Markdown pages of the repository, the blocks of code that they show, and what these read."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))
}


def write_files(folder: Path) -> None:
    """What README's commands and its Python read: two clips, their manifest and prompts."""
    from datamodules.synthetic import World
    from ditflow import write_video

    (folder / "clips").mkdir()
    for name, motion in (("car", "pan"), ("waves", "zoom")):
        write_video(folder / "clips" / f"{name}.mp4", World().clip(0, motion).frames, 8.0)
    (folder / "clips.csv").write_text(blocks("README.md", "csv")[0])
    (folder / "prompts.txt").write_text("red clouds\n")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in this language."""
    fence = rf"^```{language}\n(.*?)^```$"
    return re.findall(fence, PAGES[page], flags=re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    """The lines of a page's sh blocks, continued lines joined and comments left out."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if line.strip()]
