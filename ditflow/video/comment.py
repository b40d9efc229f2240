"""The comment of a video file: text in its container that players and ffprobe show."""

from __future__ import annotations

import os

from ditflow.files import expanded
from ditflow.video.clip import readable
from ditflow.video.container import opened


def read_comment(path: str | os.PathLike[str]) -> str:
    """The comment of a video file, or "" where it has none. No picture is decoded.

    Raises VideoError for a file that is missing or is no video.
    """
    path = expanded(path)
    with readable(path), opened(path) as (container, _):
        tags = {name.lower(): text for name, text in container.metadata.items()}
    return str(tags.get("comment", ""))
