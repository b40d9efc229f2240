"""One self-contained page: videos side by side that play together, pictures and tables, nothing fetched from anywhere.

Videos and pictures travel inside the page as base64, its policy forbids every other source, and all text is escaped.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ditflow.files import atomic_file


@dataclass(frozen=True)
class Panel:
    """One video of a row. `video` holds an mp4 file and `picture` a PNG file; `notes` are the lines below them."""

    label: str
    video: bytes | None = None
    picture: bytes | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """Panels side by side under a heading."""

    heading: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Table:
    """A table of texts: `rows` have as many cells as `columns`; the first column is the row's name."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def render_page(title: str, *, paragraphs: Sequence[str] = (), tables: Sequence[Table] = (), legend: Panel | None = None, rows: Sequence[Row] = ()) -> str:
    """The page as one HTML document: title, paragraphs, tables, legend, then the rows of videos."""
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(text)}</p>" for text in paragraphs), *map(_table, tables)]
    if legend is not None:
        parts.append(f'<div class="legend">{_panel(legend)}</div>')
    if any(panel.video is not None for row in rows for panel in row.panels):
        parts.append('<div class="player"><button type="button" id="toggle">Pause</button> all videos play together</div>')
    return _DOCUMENT.format(title=escape(title), style=_STYLE, body="\n".join([*parts, *map(_row, rows)]), script=_SCRIPT)


def write_page(path: str | os.PathLike[str], page: str) -> None:
    """Write a page as UTF-8, at once or not at all; an older page of that name is replaced."""
    with atomic_file(path) as file:
        file.write(page.encode())


def _row(row: Row) -> str:
    return f'<section><h2>{escape(row.heading)}</h2><div class="panels">{"".join(map(_panel, row.panels))}</div></section>'


def _panel(panel: Panel) -> str:
    label = escape(panel.label)
    video = f'<video src="{_data("video/mp4", panel.video)}" aria-label="{label}" muted loop autoplay playsinline></video>' if panel.video is not None else ""
    picture = f'<img src="{_data("image/png", panel.picture)}" alt="motion of {label} as colours">' if panel.picture is not None else ""
    notes = "".join(f"<span>{escape(note)}</span>" for note in panel.notes)
    return f"<figure><strong>{label}</strong>{video}{picture}<figcaption>{notes}</figcaption></figure>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    body = "".join(_table_row(row) for row in table.rows)
    return f'<div class="scroll"><table><caption>{escape(table.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _table_row(cells: tuple[str, ...]) -> str:
    name, *values = map(escape, cells)
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{value}</td>" for value in values)}</tr>'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script>{script}</script>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #5f6068; --ground: #fbfbf9; --card: #ffffff; --line: #dcdcd6 }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --soft: #a3a4ad; --ground: #17181b; --card: #202226; --line: #383a40 } }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem } p { max-width: 48rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin: 1rem 0 } caption { text-align: left; color: var(--soft); padding-bottom: .3rem }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .9rem .3rem 0 } thead th { color: var(--soft); font-weight: 500 }
th { text-align: left } td, thead th:not(:first-child) { text-align: right; font-variant-numeric: tabular-nums }
.panels { display: flex; flex-wrap: wrap; gap: .8rem }
figure { margin: 0; padding: .7rem; width: 12rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px }
figure strong { display: block; margin-bottom: .4rem }
video, .panels img { display: block; width: 100%; image-rendering: pixelated; border-radius: 4px; margin-bottom: .4rem }
figcaption span { display: block; color: var(--soft); font-size: .85rem }
.legend figure { display: flex; align-items: center; gap: 1rem; width: fit-content } .legend img { width: 5rem }
.player { margin: 1rem 0; color: var(--soft) } button { font: inherit; padding: .2rem .9rem }
"""

# The longest video leads: the others follow its time and start again with it. Without scripts each loops on its own.
_SCRIPT = """
const videos = [...document.querySelectorAll("video")], button = document.getElementById("toggle");
let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
const apply = () => {
  videos.forEach(video => playing ? video.play().catch(() => {}) : video.pause());
  if (button) button.textContent = playing ? "Pause" : "Play";
};
const lead = () => videos.reduce((a, b) => (b.duration || 0) > (a.duration || 0) ? b : a);
videos.forEach(video => {
  video.loop = false;
  video.addEventListener("ended", () => { if (video === lead()) { videos.forEach(v => v.currentTime = 0); apply(); } });
});
setInterval(() => {
  if (!videos.length || !playing) return;
  const now = lead().currentTime;
  videos.forEach(v => { if (!v.ended && now < v.duration && Math.abs(v.currentTime - now) > 0.15) v.currentTime = now; });
}, 500);
if (button) button.addEventListener("click", () => { playing = !playing; apply(); });
apply();
"""
