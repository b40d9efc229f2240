"""`ditflow motion CLIP`: the motion of a clip, in words, as a picture and as a page.

Nothing heavy is imported before the options are understood.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.extras import missing

if TYPE_CHECKING:
    from torch import Tensor

    from ditflow.core.sizes import VideoSize
    from ditflow.fields.field import MotionField
    from ditflow.fields.sources import Source
    from ditflow.video import Clip

ENTRY_FPS = 8.0  # frames per second of an entry whose clip's rate is not known


def main(argv: Sequence[str] | None = None) -> int:
    """Draw a field, and print its words and where the files are. Raises ValueError, in one
    sentence, for a clip without motion to follow, and for an entry that is no motion field.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.entry is not None and _reads_clip(options):
        parser.error("an entry holds its frames already: leave out what chooses those of a clip")
    if options.backbone is not None and options.source != "amf":
        parser.error("--backbone is for --source amf alone: leave it out")
    from rich.filesize import decimal

    from ditflow.fields.words import described
    from ditflow.files import atomic_file, expanded
    from trainers.report.motion import page_of, picture_of

    field, frames, fps, name = _entry(options) if options.entry is not None else _clip(options)
    words = described(field)
    print(words)
    print(_followed(field))
    out = expanded(options.out) if options.out else Path(f"{name}-motion")
    out.mkdir(parents=True, exist_ok=True)
    picture = picture_of(field, frames, name, f"{words}. {_followed(field)}", fps)
    with atomic_file(out / "motion.png") as file:
        file.write(picture)
    print(out / "motion.png")
    if find_spec("jinja2") is None:
        absent = ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
        print(f"ditflow: the page is left out. {missing(absent)}", file=sys.stderr)
        return 0
    from ditflow.visual import write_page

    weight = write_page(out / "index.html", page_of(field, frames, f"Motion of {name}", words, fps))
    print(f"{out / 'index.html'} ({decimal(weight)})")
    return 0


def followed(path: str, source: Source, **chosen: Any) -> tuple[MotionField, Clip]:
    """The motion of a clip, and the frames that it was followed in. `chosen` is as `clip_of` takes
    it. What is doubtful goes to stderr.
    """
    from ditflow.fields.sources import field_of
    from trainers.report.reading import clip_of, doubts

    with doubts() as said:
        clip = clip_of(path, **chosen)
        field = field_of(clip.frames, source, Path(path).resolve().stem)
    for sentence in said:
        print(f"ditflow: {sentence}", file=sys.stderr)
    return field, clip


def _clip(options: argparse.Namespace) -> tuple[MotionField, Tensor | None, float, str]:
    """The field of a clip, its frames, their rate, and the clip's name."""
    from trainers.report.reading import LEAST

    source, own = _source(options)
    if options.size and min(options.size) < LEAST:
        raise ValueError(
            f"--size {options.size[0]} {options.size[1]} is too small to follow anything in: give "
            f"at least {LEAST} pixels for each side, or leave it out."
        )
    frames, size = options.frames, tuple(options.size) if options.size else None
    if own is not None:  # a model sees clips of its own size
        frames, size = frames or own.frames, size or (own.height, own.width)
    chosen = {"start": options.start, "stride": options.stride, "fps": options.fps}
    field, clip = followed(options.clip, source, frames=frames, size=size, **chosen)
    return field, clip.frames, clip.fps or ENTRY_FPS, field.source.clip


def _source(options: argparse.Namespace) -> tuple[Source, VideoSize | None]:
    """What measures motion, and the size of clips of the model that it looks through."""
    from ditflow.fields.sources import DIS

    if options.source == DIS.name:  # which needs no model, and none is imported
        return DIS, None
    from ditflow.extraction import source_of
    from ditflow.models import load_backbone

    model = load_backbone(options.backbone) if options.backbone is not None else None
    return source_of(options.source, model), None if model is None else model.spec.size


def _entry(options: argparse.Namespace) -> tuple[MotionField, Tensor | None, float, str]:
    """The field of a bank's entry, without frames."""
    from ditflow.bank import MotionBank

    entry = MotionBank(options.clip)[options.entry]
    field = entry.field
    if field is None:
        raise ValueError(
            f"entry {options.entry!r} of {options.clip} holds optimised positions, and no motion "
            "field to draw: give the clip itself, or fit it with --method instant."
        )
    return field, None, entry.metadata.fps or ENTRY_FPS, options.entry


def _followed(field: MotionField) -> str:
    from ditflow.visual.fields import followed_share

    return f"{followed_share(field):.0%} of the picture was followed with confidence."


def _reads_clip(options: argparse.Namespace) -> bool:
    changed = options.frames, options.size, options.fps, options.backbone
    return any(value is not None for value in changed) or bool(
        options.start or options.stride != 1 or options.source != "dis"
    )


def _parser() -> argparse.ArgumentParser:
    from trainers.report.reading import FRAMES, LONGER

    parser = argparse.ArgumentParser(
        prog="ditflow motion",
        description="Draw the motion of a clip: words, a picture motion.png, a page index.html.",
        epilog="examples: ditflow motion clip.mp4    ditflow motion bank/ entry",
    )
    parser.add_argument("clip", metavar="CLIP", help="a video, or a bank's folder before ENTRY")
    parser.add_argument("entry", metavar="ENTRY", nargs="?", help="a motion field of that bank")
    parser.add_argument("--out", metavar="FOLDER", help="where to write (default: CLIP-motion)")
    parser.add_argument(
        "--frames", type=int, metavar="N", help=f"number of frames (default: at most {FRAMES})"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help=f"height and width in pixels (default: the clip's, at most {LONGER})",
    )
    parser.add_argument("--start", type=int, default=0, metavar="N", help="the first frame")
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="take every N-th frame")
    parser.add_argument("--fps", type=float, metavar="X", help="frames a second, not a stride")
    parser.add_argument(
        "--source",
        default="dis",
        metavar="NAME",
        help="what measures motion: dis, raft, lucas-kanade, cotracker3 or amf (default: dis)",
    )
    parser.add_argument(
        "--backbone", metavar="NAME", help="the model whose attention --source amf looks at"
    )
    return parser
