"""Pages from the markup, style and script in `templates/`.

The templates escape all that they are given, and no data goes into a script. A page's policy allows
our script only, and no request to the network.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from ditflow.files import atomic_file
from ditflow.visual.curves import Mark

if TYPE_CHECKING:
    from jinja2 import Template

COLOURS = 16  # colours of marks in base.css; further marks begin again


def write_rendered(path: str | os.PathLike[str], name: str, **values: object) -> int:
    """Write the page of that name as UTF-8, completely or not at all. An existing file is replaced.
    Returns the number of bytes.

    Raises ModuleNotFoundError where jinja2 is not installed.
    """
    with atomic_file(path) as file:
        return sum(file.write(chunk.encode()) for chunk in _template(name).generate(**values))


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    folder = files("ditflow.visual") / "templates"
    script, base, own = (
        (folder / file).read_text(encoding="utf-8")
        for file in (f"{name}.js", "base.css", f"{name}.css")
    )
    environment = Environment(
        loader=PackageLoader("ditflow.visual"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        enable_async=False,
    )
    environment.filters |= {"data": _data, "mark": _mark, "number": _number}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment.globals |= {
        "script": Markup(script),
        "style": Markup(base + own),
        "script_sha256": digest,
    }
    return environment.get_template(f"{name}.html")


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _mark(mark: Mark | None) -> str:
    return "" if mark is None else f"c{mark.colour % COLOURS}" + " dashed" * mark.dashed


def _number(value: float | None) -> str:
    """What the script sorts by: empty without a number."""
    return "" if value is None or not math.isfinite(value) else repr(value)
