"""DiTFlow's benchmark on DAVIS: 50 clips, three prompts each (Pondaven et al., CVPR 2025, section
5.1), from files that the user brings.

The folder `DAVIS` is that of DAVIS 2017 (Pont-Tuset et al., 1704.00675), with the pictures of
"TrainVal" and of "Test-Dev" in it:

    DAVIS/JPEGImages/480p/<clip>/00000.jpg, 00001.jpg, ...

The prompts are one JSON object, from a clip's name to its prompts and to the frames that are taken,
as (start, end, step) of a Python range:

    {"<clip>": {"easy": "...", "medium": "...", "hard": "...", "frame_range": [0, 48, 2]}, ...}

where easy, medium and hard are the caption, subject and scene prompts. A clip may also have
"subjects", such as {"easy": "black swan", "medium": "duck"}: the words of a prompt that name its
subject, for methods that look for them.
"""

# T frames, C = 3 colours, Y X pixel rows and columns
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.benchmark import KINDS, BenchmarkClip, BenchmarkData
from ditflow.bank.records import is_name
from ditflow.core.sizes import VideoSize
from ditflow.files import expanded
from ditflow.video import read_video

KEYS = dict(zip(("easy", "medium", "hard"), KINDS, strict=True))
DOWNLOAD = (
    "Download DAVIS 2017, the 480p archives of TrainVal and of Test-Dev, from "
    "https://davischallenge.org/davis2017/code.html into one folder DAVIS"
)
SCHEMA = (
    '{"<clip>": {"easy": "...", "medium": "...", "hard": "...", '
    '"frame_range": [start, end, step]}, ...}'
)
PROMPTS = (
    "The benchmark's prompts are published with DiTFlow, https://github.com/ditflow/ditflow; "
    f"the file is one JSON object {SCHEMA}"
)


class DavisBenchmark(BenchmarkData):
    """DAVIS clips with the prompts of a file.

    Args:
        davis_root: The folder DAVIS, with JPEGImages in it.
        prompts: JSON file: name of a clip -> its prompts easy, medium and hard, and its frame_range
            [start, end, step].
        resolution: Folder of the pictures in JPEGImages.
        names: Clips to take; by default all of the file.
        size: Height and width in pixels that frames are resized to; by default the backbone's.
    """

    def __init__(
        self,
        davis_root: str | None = None,
        prompts: str | None = None,
        *,
        resolution: str = "480p",
        names: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        if davis_root is None:
            raise ValueError(f"name the folder DAVIS by --data.davis_root. {DOWNLOAD}.")
        if prompts is None:
            raise ValueError(f"name the file of prompts by --data.prompts. {PROMPTS}.")
        self.pictures, self.file, self.size = (
            expanded(davis_root) / "JPEGImages" / resolution,
            expanded(prompts),
            size,
        )
        rows = read_davis_prompts(self.file)
        if unknown := set(names or ()) - rows.keys():
            raise ValueError(
                f"{self.file} has no clip {', '.join(sorted(unknown))}: it has {', '.join(rows)}."
            )
        self._rows = {name: rows[name] for name in names} if names else rows
        self.frames = self._common_frames()

    def clips(self) -> list[BenchmarkClip]:
        if not self.pictures.is_dir():
            raise ValueError(
                f"there is no folder {self.pictures}. {DOWNLOAD}, and name that folder by "
                "--data.davis_root."
            )
        if missing := [name for name in self._rows if not (self.pictures / name).is_dir()]:
            lacking = f"{len(missing)} of {len(self._rows)} clips: {', '.join(missing)}"
            raise ValueError(
                f"{self.pictures} lacks {lacking}. {DOWNLOAD}, or choose clips by --data.names."
            )
        return [
            BenchmarkClip(
                name,
                _by_kind(row),
                _by_kind(row.get("subjects", {})),
                str((self.pictures / name).absolute()),
                start,
                step,
            )
            for name, row in self._rows.items()
            for start, _, step in [row["frame_range"]]
        ]

    def video(self, clip: BenchmarkClip, size: VideoSize) -> Tensor:
        assert clip.video is not None, "every DAVIS clip is a folder of pictures"
        return read_video(
            clip.video,
            frames=size.frames,
            start=clip.start,
            stride=clip.stride,
            size=(size.height, size.width),
        ).frames

    def _common_frames(self) -> int:
        counts = {name: len(range(*row["frame_range"])) for name, row in self._rows.items()}
        first, frames = next(iter(counts.items()))
        for name, count in counts.items():
            if count != frames:
                raise ValueError(
                    f"{self.file}: {first!r} has {frames} frames and {name!r} has {count}: give "
                    "all clips frame ranges of one length."
                )
        return frames


def read_davis_prompts(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a prompts file by clip. Raises ValueError that names the file, the clip and what
    was wanted.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}. {PROMPTS}.")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): it should be {SCHEMA}.") from error
    if not isinstance(rows, dict) or not rows:
        raise ValueError(f"{path} names no clips: it should be {SCHEMA}.")
    for name, row in rows.items():
        _check_row(row, f"{path}: clip {name!r}")
        if not is_name(name):
            raise ValueError(
                f"{path}: {name!r} is no clip's name: a name is 1 to 128 letters, digits, '.', '_' "
                "and '-', without a dot in front."
            )
    return rows


def _by_kind(texts: dict[str, Any]) -> dict[str, str]:
    return {kind: texts[key] for key, kind in KEYS.items() if key in texts}


def _check_row(row: Any, where: str) -> None:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in KEYS):
        raise ValueError(f"{where} lacks one of the texts {', '.join(KEYS)}.")
    subjects = row.get("subjects", {})
    if not isinstance(subjects, dict) or not all(
        key in KEYS and isinstance(text, str) for key, text in subjects.items()
    ):
        raise ValueError(
            f"{where} has the subjects {subjects!r:.80}: give texts by {', '.join(KEYS)}."
        )
    numbers = row.get("frame_range")
    if (
        not isinstance(numbers, list)
        or len(numbers) != 3
        or not all(type(number) is int for number in numbers)
    ):
        raise ValueError(
            f"{where} has the frame_range {numbers!r:.80}: give [start, end, step] in whole "
            "numbers."
        )
    start, end, step = numbers
    if not (0 <= start < end and step >= 1):
        raise ValueError(
            f"{where} has the frame_range {numbers}: give 0 <= start < end and a step of at "
            "least 1."
        )
