"""Manifests: the reference clips whose motion is wanted, one on each row."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from glob import glob
from pathlib import Path
from typing import Any, TypeVar

from datamodules.queue.generation_queue import Generation
from datamodules.rows import (
    ManifestError,
    Row,
    check_name,
    check_values,
    integer,
    picture,
    rate,
    read_rows,
)
from ditflow.bank.kinds.metadata import FIELDS
from ditflow.files import expanded
from ditflow.models import backbone_spec
from ditflow.sampling.image import check_image

WORDS = ("caption", "subject", "caption_subject")


Asked = TypeVar("Asked", "MotionTask", Generation)


@dataclass(frozen=True)
class MotionTask:
    """One reference clip to take the motion from.

    Attributes:
        start, stride: The first frame and the step to the next, in frames of the clip's file.
        fps: Frames taken a second, by time; None where they are taken by number.
        image: File of the picture that the video begins with; empty for none.
        negative_prompt: None for the recommended one.
        caption: What the clip shows, for signals that read words.
        subject, caption_subject: Words of the prompt and of the caption; empty where the signal
            finds them.
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
    image: str = ""


def tasks_of(
    manifest: str | None, videos: str | None, prompt: str, caption: str, **defaults: Any
) -> list[MotionTask]:
    """The clips of a manifest, or of a pattern with one prompt and caption for all."""
    if (manifest is None) == (videos is None):
        raise ValueError(
            "name the clips either by --data.manifest clips.csv or by --data.videos 'clips/*.mp4'."
        )
    if manifest is not None:
        return read_manifest(manifest, **defaults)
    return tasks_of_videos(str(videos), prompt, caption=caption, **defaults)


def check_images(asked: list[Asked], backbone: str) -> list[Asked]:
    """What is asked for. Raises ModelError where the backbone needs a picture and a clip or a video
    has none to begin with, or has one and it takes none.
    """
    spec, fix = backbone_spec(backbone), "--data.image FILE, or in a column 'image'"
    for one in asked:
        check_image(spec, bool(one.image), fix, f"the video of {one.name!r}")
    return asked


def read_manifest(
    path: str | Path,
    *,
    negative_prompt: str | None = None,
    seed: int = 0,
    fps: float | None = None,
    image: str = "",
) -> list[MotionTask]:
    """The clips of a CSV or JSONL file, with absolute paths.

    The negative prompt, the seed and the image are for rows without their own, and `fps` for rows
    with neither fps nor stride.
    """
    path = expanded(path)
    optional = {"name", "negative_prompt", "start", "stride", "fps", "seed", "tags", "image"}
    rows = read_rows(path, required={"video", "prompt"}, optional=optional.union(WORDS))
    defaults = {"negative_prompt": negative_prompt, "seed": seed, "image": image}
    by_time = {"fps": fps} if fps is not None else {}
    return _unique(
        [
            _task(defaults | ({} if "stride" in row else by_time) | row, where, path.parent)
            for where, row in rows
        ],
        f"{path}",
    )


def tasks_of_videos(
    pattern: str,
    prompt: str,
    *,
    negative_prompt: str | None = None,
    seed: int = 0,
    fps: float | None = None,
    caption: str = "",
    image: str = "",
) -> list[MotionTask]:
    """One task for each file that the pattern matches, in alphabetical order."""
    found = sorted(glob(str(expanded(pattern)), recursive=True))
    if not found:
        raise ManifestError(
            f"no file matches {pattern!r}: give a pattern such as 'clips/*.mp4', in quotes."
        )
    common: Any = dict(prompt=prompt, negative_prompt=negative_prompt, seed=seed, fps=fps)
    common |= dict(caption=caption, image=image)
    tasks = [MotionTask(_slug(file), str(Path(file).absolute()), **common) for file in found]
    return _unique([_checked(task, repr(pattern)) for task in tasks], repr(pattern))


def _task(row: Row, where: str, folder: Path) -> MotionTask:
    if not row["video"] or not isinstance(row["video"], str):
        raise ManifestError(f"{where} names no video.")
    name = row.get("name") or _slug(row["video"])
    check_name(name, where)
    stride = integer(row, "stride", 1, where)
    start = integer(row, "start", 0, where)
    if stride < 1 or start < 0:
        raise ManifestError(
            f"{where}: start is {start} and stride is {stride}, but they must be at least 0 and 1."
        )
    fps = rate(row, where)
    if fps is not None and stride != 1:
        raise ManifestError(
            f"{where}: stride is {stride} and fps is {fps:g}: both say which frames to take, so "
            "give one of them."
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
        seed=integer(row, "seed", 0, where),
        tags=tuple(
            str(tag).strip() for tag in (tags.split(";") if isinstance(tags, str) else tags)
        ),
        image=picture(row, where, folder),
        **words,
    )
    return _checked(task, where)


def _checked(task: MotionTask, where: str) -> MotionTask:
    """The task, if the metadata of an entry can hold it: better refused now than after the work."""
    check_values({key: value for key, value in asdict(task).items() if key in FIELDS}, where)
    return task


def _slug(video: str) -> str:
    """A clip's name from its file's: what a bank does not take as a name becomes '-'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(video).stem).strip("-.")[:128] or "clip"


def _unique(tasks: list[MotionTask], where: str) -> list[MotionTask]:
    seen: dict[str, str] = {}
    for task in tasks:
        if task.name in seen:
            raise ManifestError(
                f"{where} names two clips {task.name!r} ({seen[task.name]} and {task.video}): give "
                "them different names in a column 'name'."
            )
        seen[task.name] = task.video
    return tasks
