"""What is asked for, as plain rows: manifests of reference clips, prompts for a bank's entries.

A manifest is a CSV file with a header or a JSONL file with one object for each line. A bad row is
refused with its line number, before any work starts.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from glob import glob
from pathlib import Path
from typing import Any

from ditflow.bank.metadata import FIELDS
from ditflow.bank.records import is_name
from ditflow.files import expanded

WORDS = ("caption", "subject", "caption_subject")


class ManifestError(ValueError):
    """A file of clips or prompts that cannot be taken as it is."""


@dataclass(frozen=True)
class MotionTask:
    """One reference clip to take the motion from. `start` and `stride` count the clip's own frames;
    with `fps`, frames are taken by time instead, so many a second. `negative_prompt` None is the
    recommended one.

    For signals that read words: `caption` says what the clip shows; `subject` are words of the
    prompt, `caption_subject` of the caption, empty where the signal knows them.
    """

    name: str
    video: str
    prompt: str = ""
    negative_prompt: str | None = None
    start: int = 0
    stride: int = 1
    seed: int = 0
    tags: tuple[str, ...] = ()
    caption: str = ""
    subject: str = ""
    caption_subject: str = ""
    fps: float | None = None


@dataclass(frozen=True)
class Pairing:
    """One entry, one prompt: `seed` None means each of the seeds asked for, `name` that of the
    video's file if it is not to be made from the others.
    """

    entry: str
    prompt: str
    seed: int | None = None
    name: str | None = None


def read_manifest(
    path: str | Path, *, negative_prompt: str | None = None, seed: int = 0, fps: float | None = None
) -> list[MotionTask]:
    """The clips of a manifest, with absolute paths.

    Where it gives none, they have this negative prompt, seed and, unless they give a stride, frames
    a second.
    """
    path = expanded(path)
    optional = {"name", "negative_prompt", "start", "stride", "fps", "seed", "tags", *WORDS}
    rows = _rows(path, required={"video", "prompt"}, optional=optional)
    defaults = {"negative_prompt": negative_prompt, "seed": seed}
    by_time = {"fps": fps} if fps is not None else {}
    rows = [(line, row if "stride" in row else by_time | row) for line, row in rows]
    return _unique(
        [_task(defaults | row, f"{path} line {line}", path.parent) for line, row in rows], f"{path}"
    )


def tasks_of_videos(
    pattern: str,
    prompt: str,
    *,
    negative_prompt: str | None = None,
    seed: int = 0,
    fps: float | None = None,
    caption: str = "",
) -> list[MotionTask]:
    """One task for each file that the pattern matches, in alphabetical order."""
    found = sorted(glob(str(expanded(pattern)), recursive=True))
    if not found:
        raise ManifestError(
            f"no file matches {pattern!r}: give a pattern such as 'clips/*.mp4', in quotes."
        )
    common: Any = dict(
        prompt=prompt, negative_prompt=negative_prompt, seed=seed, fps=fps, caption=caption
    )
    tasks = [MotionTask(_slug(file), str(Path(file).absolute()), **common) for file in found]
    return _unique([_checked(task, repr(pattern)) for task in tasks], repr(pattern))


def read_prompts(path: str | Path) -> list[str] | list[Pairing]:
    """The lines of a text file (prompts for every entry), or the rows of a CSV or JSONL file
    (`entry,prompt[,seed,name]`).

    Blank lines at the end of a text file are left out; a blank line elsewhere is refused, because
    it may stand for an empty prompt or for nothing.
    """
    path = expanded(path)
    if path.suffix.lower() in (".csv", ".jsonl"):
        rows = _rows(path, required={"entry", "prompt"}, optional={"seed", "name"})
        return [_pairing(row, f"{path} line {line}") for line, row in rows]
    lines = [line.strip() for line in _text(path).rstrip().split("\n")]
    if not any(lines):
        raise ManifestError(f"{path} holds no prompt: write one on each line.")
    if "" in lines:
        raise ManifestError(
            f"{path} line {lines.index('') + 1} is blank: remove it, or use a CSV file with the columns entry,prompt for an empty prompt."
        )
    return lines


def video_name(entry: str, prompt: str, seed: int) -> str:
    """File name of the video of an entry, a prompt and a seed; prompts that read alike are told
    apart by their hash.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:48].strip("-") or "no-prompt"
    return f"{entry}-{slug}-{hashlib.sha256(prompt.encode()).hexdigest()[:6]}-seed{seed}.mp4"


def _rows(
    path: Path, *, required: set[str], optional: set[str]
) -> list[tuple[int, dict[str, Any]]]:
    rows = _jsonl(path, required) if path.suffix.lower() == ".jsonl" else _csv(path, required)
    if not rows:
        raise ManifestError(
            f"{path} has no rows: it needs the columns {_list(required)}, and may have {_list(optional)}."
        )
    for line, row in rows:
        if missing := required - row.keys():
            raise ManifestError(
                f"{path} line {line} has no column {_list(missing)}: it needs {_list(required)}, and may have {_list(optional)}."
            )
        if unknown := row.keys() - required - optional:
            raise ManifestError(
                f"{path} line {line} has an unknown column {_list(unknown)}: known are {_list(required | optional)}."
            )
    return rows


def _csv(path: Path, required: set[str]) -> list[tuple[int, dict[str, Any]]]:
    """Rows with their line numbers. An empty cell of an optional column is left out."""
    reader = csv.DictReader(
        io.StringIO(_text(path), newline=""),
        restkey="(more cells than the header)",
        restval="",
        strict=True,
    )
    try:
        rows = [(reader.line_num, row) for row in reader]
        _without_repeats([(name.strip(), None) for name in reader.fieldnames or ()])
    except csv.Error as error:
        raise ManifestError(
            f"{path} line {reader.line_num} is not CSV ({error}): put quotes around a text with a comma."
        ) from error
    except ValueError as error:
        raise ManifestError(f"{path} line 1: {error}.") from None
    named = [
        (
            line,
            {
                (key or "").strip(): value.strip() if isinstance(value, str) else value
                for key, value in row.items()
            },
        )
        for line, row in rows
    ]
    return [
        (line, {key: value for key, value in row.items() if value != "" or key in required})
        for line, row in named
    ]


def _jsonl(path: Path, required: set[str]) -> list[tuple[int, dict[str, Any]]]:
    """Rows with their line numbers. A null of an optional key is left out."""
    rows = []
    for line, text in enumerate(_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as error:
            raise ManifestError(
                f"{path} line {line} is not JSON ({error}): write one object on each line."
            ) from error
        if not isinstance(row, dict):
            raise ManifestError(
                f'{path} line {line} is not an object: write {{"video": ..., "prompt": ...}}.'
            )
        rows.append(
            (
                line,
                {key: value for key, value in row.items() if value is not None or key in required},
            )
        )
    return rows


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if repeated := [
        name for name, count in Counter(name for name, _ in pairs).items() if count > 1
    ]:
        raise ValueError(f"it has the column {repeated[0]!r} more than once")
    return dict(pairs)


def _text(path: Path) -> str:
    if not path.is_file():
        raise ManifestError(f"there is no file {path}.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start})."
        ) from error


def _task(row: dict[str, Any], where: str, folder: Path) -> MotionTask:
    if not row["video"] or not isinstance(row["video"], str):
        raise ManifestError(f"{where} names no video.")
    name = row.get("name") or _slug(row["video"])
    _check_name(name, where)
    stride = _integer(row, "stride", 1, where)
    start = _integer(row, "start", 0, where)
    if stride < 1 or start < 0:
        raise ManifestError(
            f"{where}: start is {start} and stride is {stride}, but they must be at least 0 and 1."
        )
    fps = _rate(row, where)
    if fps is not None and stride != 1:
        raise ManifestError(
            f"{where}: stride is {stride} and fps is {fps:g}: both say which frames to take, so give one of them."
        )
    tags = row.get("tags", [])
    words = {word: row.get(word, "") for word in WORDS}
    texts = [row["prompt"], *words.values()]
    if (
        not all(isinstance(text, str) for text in texts)
        or not isinstance(row["negative_prompt"], str | None)
        or not isinstance(tags, str | list)
    ):
        raise ManifestError(
            f"{where}: prompts must be text, and tags a text with ';' between them or a list."
        )
    task = MotionTask(
        name=str(name),
        video=str((folder / expanded(row["video"])).absolute()),
        prompt=row["prompt"],
        negative_prompt=row["negative_prompt"],
        start=start,
        stride=stride,
        fps=fps,
        seed=_integer(row, "seed", 0, where),
        tags=tuple(
            str(tag).strip() for tag in (tags.split(";") if isinstance(tags, str) else tags)
        ),
        **words,
    )
    return _checked(task, where)


def _pairing(row: dict[str, Any], where: str) -> Pairing:
    if not (isinstance(row["entry"], str) and isinstance(row["prompt"], str)):
        raise ManifestError(
            f"{where}: entry is {row['entry']!r:.80} and prompt {row['prompt']!r:.80}, but they must be text."
        )
    pairing = Pairing(
        row["entry"], row["prompt"], _integer(row, "seed", None, where), row.get("name")
    )
    check_values({"prompt": pairing.prompt, "seed": pairing.seed}, where)
    if pairing.name is not None:
        _check_name(pairing.name, where)
    return pairing


def _checked(task: MotionTask, where: str) -> MotionTask:
    """The task, if an entry can hold what it says: better now than after the work."""
    check_values({key: value for key, value in asdict(task).items() if key in FIELDS}, where)
    return task


def check_values(values: Mapping[str, Any], where: str) -> None:
    """Raise ManifestError for a value that the metadata of an entry refuse; None is whatever is
    recommended.
    """
    for key, value in values.items():
        try:
            FIELDS[key](value) if value is not None else None
        except ValueError as error:
            raise ManifestError(f"{where}: {key} {error}, not {value!r:.80}.") from None


def _check_name(name: object, where: str) -> None:
    if not is_name(name):
        raise ManifestError(
            f"{where}: the name {name!r} is not one of 1 to 128 letters, digits, '.', '_' and '-' that does not begin with a dot."
        )


def _integer(row: dict[str, Any], key: str, default: Any, where: str) -> Any:
    value = row.get(key)
    if value is None or value == "":
        return default
    try:
        return int(str(value))
    except ValueError:
        raise ManifestError(
            f"{where}: {key} is {value!r}, but it must be a whole number."
        ) from None


def _rate(row: dict[str, Any], where: str) -> float | None:
    value = row.get("fps")
    if value is None or value == "":
        return None
    try:
        rate = float(str(value))
    except ValueError:
        rate = 0.0
    if not 0 < rate < math.inf:
        raise ManifestError(
            f"{where}: fps is {value!r:.80}, but it must be a finite number above 0."
        )
    return rate


def _slug(video: str) -> str:
    """A clip's name from its file's: what a bank does not take as a name becomes '-'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(video).stem).strip("-.")[:128] or "clip"


def _unique(tasks: list[MotionTask], where: str) -> list[MotionTask]:
    seen: dict[str, str] = {}
    for task in tasks:
        if task.name in seen:
            raise ManifestError(
                f"{where} names two clips {task.name!r} ({seen[task.name]} and {task.video}): give them different names in a column 'name'."
            )
        seen[task.name] = task.video
    return tasks


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
