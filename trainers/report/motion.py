"""The motion of one clip as a picture and as a page: arrows, paths, colours, confidence."""

# T pixel frames, F times, C = 3 colours, Y X pixel rows and columns
from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from ditflow.fields.field import MotionField
from ditflow.video import encode_video
from ditflow.visual import Group, Page, Panel, Picture, Section, flow_colours, png, wheel
from ditflow.visual.fields import (
    arrows_on,
    confidence_colours,
    enlarged,
    followed_share,
    movement,
    paths,
    paths_on,
    points_on_grid,
    reach_of,
)

ROWS = ("movement", "paths", "colours", "confidence")
COLUMNS, LONGER, FILM = 6, 232, 400  # moments in the picture; longer side there and in the page
PAPER, INK, SOFT = (250, 250, 247), (29, 29, 32), (98, 99, 108)
MOVEMENT = (
    "Arrows and colours: how the content at each place has moved since the first frame, "
    "right is right and down is down. Arrows are scaled to fit; grey ones were filled in, not "
    "followed."
)
PATHS = (
    "Paths: where points of the first frame went. The colour says where a point began; a path "
    "stops where its point is hidden or leaves."
)
CONFIDENCE = (
    "Confidence: pale where the content was followed all the way, dark blue where filled in."
)


@dataclass(frozen=True)
class Views:
    """Pictures uint8 (T, C, Y, X) of each kind in ROWS at some times, in frames of the video."""

    times: tuple[float, ...]
    rows: dict[str, Tensor]
    reach: float


def views(field: MotionField, frames: Tensor | None, times: Sequence[float], longer: int) -> Views:
    """A field drawn at some times, over a clip's `frames` (T, C, Y, X) or, without them, on grey.

    `longer` is the longer side of a picture, in pixels.
    """
    shape, reach = _shape(field.aspect, longer), reach_of(field)
    all_times, arrows = sorted({*field.times, *times}), arrows_of(field, frames, times, longer)
    field = field.resampled(all_times, field.cells, field.frames)
    places, seen = paths(field, points_on_grid(field))
    moved, rows = movement(field), dict[str, list[Tensor]]()
    for time, arrowed in zip(times, arrows, strict=True):
        at = all_times.index(time)
        ground = _ground(frames, time, shape)
        drawn = (
            arrowed,
            paths_on(_dimmed(ground, shape), places[: at + 1], seen[: at + 1]),
            flow_colours(enlarged(moved[at], shape), reach),
            confidence_colours(enlarged(field.confidence[at], shape)),
        )
        for name, picture in zip(ROWS, drawn, strict=True):
            rows.setdefault(name, []).append(picture)
    return Views(tuple(times), {name: torch.stack(row) for name, row in rows.items()}, reach)


def arrows_of(
    field: MotionField, frames: Tensor | None, times: Sequence[float], longer: int
) -> Tensor:
    """The movement alone, as `views` has it and much sooner: uint8 (times, C, Y, X)."""
    shape, reach = _shape(field.aspect, longer), reach_of(field)
    field = field.resampled(times, field.cells, field.frames)
    drawn = []
    for time, moved, trust in zip(times, movement(field), field.confidence, strict=True):
        ground = _ground(frames, time, shape)
        if ground is None:
            ground = flow_colours(enlarged(moved, shape), reach)
        drawn.append(arrows_on(ground, moved, trust, reach))
    return torch.stack(drawn)


def picture_of(
    field: MotionField, frames: Tensor | None, title: str, words: str, fps: float
) -> bytes:
    """A PNG file: moments from the first to the last side by side, in the rows of ROWS."""
    drawn = views(field, frames, _moments(field, COLUMNS), LONGER)
    count, (height, width) = len(drawn.times), next(iter(drawn.rows.values())).shape[2:]
    left, gap, edge = 104, 8, 24
    full = left + count * (width + gap) - gap + 2 * edge
    lines = textwrap.wrap(words, max(30, full // 10))
    top = edge + 40 + 26 * len(lines) + 30
    grid = len(ROWS) * (height + gap) - gap
    legend = _legend(full - 2 * edge, drawn.reach)
    sheet = Image.new("RGB", (full, top + grid + 28 + legend.height + edge), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((edge, edge), title, INK, _font(26))
    for index, line in enumerate(lines):
        draw.text((edge, edge + 38 + 26 * index), line, SOFT, _font(18))
    for column, time in enumerate(drawn.times):
        x = edge + left + column * (width + gap)
        draw.text((x, top - 22), _clock(time, fps), SOFT, _font(14))
        for row, name in enumerate(ROWS):
            pixels = drawn.rows[name][column].permute(1, 2, 0).numpy()
            sheet.paste(
                Image.fromarray(numpy.ascontiguousarray(pixels)), (x, top + row * (height + gap))
            )
    for row, name in enumerate(ROWS):
        y = top + row * (height + gap) + height // 2
        draw.text((edge, y), name, INK, _font(16), anchor="lm")
    sheet.paste(legend, (edge, top + grid + 28))
    return png(torch.from_numpy(numpy.array(sheet)).permute(2, 0, 1))


def page_of(field: MotionField, frames: Tensor | None, title: str, words: str, fps: float) -> Page:
    """One page: the words, and videos of each of ROWS that play together beside the clip."""
    drawn = views(field, frames, tuple(map(float, range(field.frames))), FILM)
    shape = _shape(field.aspect, FILM)
    panels = [
        Panel(name.capitalize(), encode_video(row, fps, crf=20), shape)
        for name, row in drawn.rows.items()
    ]
    if frames is None:
        reference, panels = panels[0], panels[1:]
    else:
        clip = torch.stack([_resized(frame, shape) for frame in frames])
        reference = Panel("Clip", encode_video(clip, fps, crf=20), shape)
    disc = Picture("directions", png(wheel(95)))
    return Page(
        title=title,
        paragraphs=(words,),
        facts=(
            ("frames", f"{field.frames} at {fps:.3g} a second"),
            ("followed with confidence", f"{followed_share(field):.0%} of the picture"),
            ("flow", field.source.method),
            ("cells", "{} x {}".format(*field.cells)),
        ),
        legend=(
            Panel("Movement", pictures=(disc,), notes=(MOVEMENT, _full(drawn.reach))),
            Panel("Paths and confidence", notes=(PATHS, CONFIDENCE)),
        ),
        sections=(Section("Motion", "motion", reference, (Group(tuple(panels)),)),),
    )


def _moments(field: MotionField, count: int) -> tuple[float, ...]:
    """Whole frames from the first to the last, evenly."""
    count = min(count, field.frames)
    return tuple(float(round(at)) for at in numpy.linspace(0, field.frames - 1, count))


def _legend(width: int, reach: float) -> Image.Image:
    size = 76
    lines = [
        line
        for text in (f"{MOVEMENT} {_full(reach)}", f"{PATHS} {CONFIDENCE}")
        for line in textwrap.wrap(text, max(30, int((width - size - 20) / 7.4)))
    ]
    legend = Image.new("RGB", (width, max(size, 20 * len(lines))), PAPER)
    disc = Image.fromarray(wheel(3 * size).permute(1, 2, 0).numpy()).resize((size, size))
    legend.paste(disc, (0, 0), disc)
    draw = ImageDraw.Draw(legend)
    for index, line in enumerate(lines):
        draw.text((size + 20, 20 * index), line, SOFT, _font(14))
    return legend


def _full(reach: float) -> str:
    return f"Full colour is {reach:.0%} of the frame's height or more."


def _clock(time: float, fps: float) -> str:
    return f"frame {time:.0f}, {time / fps:.2f} s"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _shape(aspect: float, longer: int) -> tuple[int, int]:
    """Height and width of that longer side, both even as video needs."""
    sides = (longer / aspect, longer) if aspect >= 1 else (longer, longer * aspect)
    height, width = (max(2, 2 * round(side / 2)) for side in sides)
    return height, width


def _ground(frames: Tensor | None, time: float, shape: tuple[int, int]) -> Tensor | None:
    return None if frames is None else _resized(frames[round(time)], shape)


def _dimmed(ground: Tensor | None, shape: tuple[int, int]) -> Tensor:
    """A picture in muted colours, on which paths are seen; grey where there is none."""
    if ground is None:
        return torch.full((3, *shape), 90, dtype=torch.uint8)
    grey = ground.float().mean(0, keepdim=True)
    return ((0.5 * grey + 0.5 * ground) * 0.6).round().to(torch.uint8)


def _resized(frame: Tensor, shape: tuple[int, int]) -> Tensor:
    large = functional.interpolate(
        frame[None].float(), shape, mode="bicubic", antialias=True, align_corners=False
    )
    return large[0].clamp(0, 255).round().to(torch.uint8)
