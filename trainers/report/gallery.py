"""A bank as a gallery: a card for each entry, with a film of its motion.

All that an entry says was written by a stranger: it is cut to a length, and shown as plain text.
"""

# F times, H W rows and columns of cells
from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from rich.filesize import decimal

from ditflow.bank import FieldMetadata, IndexRow, MotionBank
from ditflow.bank.kinds import AnyMetadata
from ditflow.fields.field import MotionField
from ditflow.fields.words import described
from ditflow.visual import Card, Curve, Film, Order, Panel, Picture, png, wheel
from ditflow.visual.fields import followed_share, movement
from trainers.progress.view import plain
from trainers.report.films import MOMENTS, film_name, tile_shape

LONGEST, SETTING = 400, 120  # letters of a text, and of a setting
ORDERS = (
    Order("date", "newest"),
    Order("motion", "most motion"),
    Order("followed", "best followed"),
    Order("loss", "lowest loss", highest_first=False),
    Order("bytes", "smallest file", highest_first=False),
)
APART = (
    "losses",
    "words",
    "clip",
    "prompt",
    "tags",
    "size",
    "times",
    "timesteps",
)  # told elsewhere
NO_MOTION = (
    "This entry keeps no motion of its clip to draw: it was fitted by an earlier version, or its "
    "clip has a cut. The curve is the loss of its optimisation."
)
DRAWN = (
    "A chequered texture is carried along by the motion, from the first frame to the last. It is "
    "drawn from the motion alone: nothing of a clip's looks is shown. Grey where the motion was "
    "filled in, not followed."
)
COLOURS = (
    "How far each place has moved since the first frame: red is right, yellow-green down, cyan "
    "left, violet up. White is no motion, full colour the longest motion of the entry."
)
COMMAND = (
    "Each command makes videos of the prompts in prompts.txt. A motion field fits any model: add "
    "--model.backbone to choose one."
)
Draw = Callable[[str, MotionField], None]


def card_of(bank: MotionBank, row: IndexRow, draw: Draw) -> Card:
    """The card of an entry. `draw` is given the name of its film's file, and its motion.

    Raises ValueError, which names the entry, for one that is damaged.
    """
    metadata, field = bank.metadata(row.name), bank.motion(row.name)
    measures = {"date": _seconds(metadata.date), "bytes": float(row.size)}
    numbers = [("file", decimal(row.size))]
    losses = tuple(chain.from_iterable(getattr(metadata, "losses", ())))
    if losses:
        measures["loss"] = losses[-1]
    film, words = None, metadata.words
    if field is not None:
        file = film_name(bank.content_hash(row.name))
        draw(file, field)
        height, width = tile_shape(field.aspect)
        film, words = Film(f"films/{file}", MOMENTS, width / height), words or described(field)
        measures |= {"motion": _amount(field), "followed": followed_share(field)}
        numbers += [
            ("motion", f"{measures['motion']:.0%} of the height"),
            ("followed", f"{measures['followed']:.0%}"),
        ]
    return Card(
        row.name,
        words=_text(words),
        told=_told(metadata),
        film=film,
        curve=Curve("loss", losses) if losses else None,
        note=NO_MOTION if film is None else "",
        measures=measures,
        numbers=tuple(numbers),
        settings=_settings(metadata),
        command=_command(bank, row.name, metadata),
    )


def legend() -> tuple[Panel, ...]:
    """What the two halves of a film show, and what the commands do."""
    disc = Picture("directions", png(wheel(95)))
    return (
        Panel("Motion", notes=(DRAWN,)),
        Panel("Colours", pictures=(disc,), notes=(COLOURS,)),
        Panel("Use", notes=(COMMAND,)),
    )


def _amount(field: MotionField) -> float:
    """How far the picture moves: its mean movement when most has moved, in heights of the frame."""
    return float(movement(field).norm(dim=1).mean((1, 2)).max())


def _seconds(date: str) -> float:
    """Of an ISO date, since 1970; one without a zone is in UTC."""
    at = datetime.fromisoformat(date)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _told(metadata: AnyMetadata) -> tuple[str, ...]:
    """Source and prompt, as far as the entry says them."""
    frames, height, width = metadata.size
    source = f"clip {metadata.clip}" if metadata.clip else "clip not named"
    made = (
        f"motion field, measured by {metadata.method}"
        if isinstance(metadata, FieldMetadata)
        else f"{metadata.variable} of {metadata.backbone}"
    )
    said = (
        f"{source}, {frames} frames of {height} x {width}",
        made,
        f"prompt: {metadata.prompt}" if metadata.prompt else "",
        f"tags: {', '.join(metadata.tags)}" if metadata.tags else "",
    )
    return tuple(_text(line) for line in said if line)


def _settings(metadata: AnyMetadata) -> str:
    """A line for each field that is not empty and not told beside them."""
    facts = {name: value for name, value in metadata.as_dict().items() if name not in APART}
    return "\n".join(
        f"{name}: {_text(_shown(value), SETTING)}"
        for name, value in facts.items()
        if value not in ("", (), None)
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _text(text: str, longest: int = LONGEST) -> str:
    """Plain text of at most so many letters."""
    return plain(text if len(text) <= longest else text[: longest - 1] + "…")


def _command(bank: MotionBank, name: str, metadata: AnyMetadata) -> str:
    """What a shell makes videos of the entry with. No text of a stranger leaves its quotes."""
    words = ["ditflow", "predict"]
    if not isinstance(metadata, FieldMetadata):
        known = metadata.backbone.isprintable()
        words.append(f"--model.backbone={metadata.backbone if known else 'MODEL'}")
    words += ["--bank", bank.path, "--data.entries", json.dumps([name])]
    return shlex.join([*words, "--data.prompts", "prompts.txt", "--out", "videos/"])
