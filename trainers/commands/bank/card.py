"""The card of a bank on the Hugging Face Hub: what it holds, how to use it, licence and source.

Licence and source are its owner's words. Names, prompts and words of entries may be a stranger's:
they are shown as plain text, every sign of them that Markdown or HTML could take escaped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from ditflow.bank import BankError, IndexRow, MotionBank
from trainers.commands.bank.words import count
from trainers.progress.view import plain

CARD, PICTURES = "README.md", "pictures"
LISTED, LONGEST, ROWS = 100, 160, 96  # entries in the table, letters of a cell, pixels of a picture
TEXT = """\
---
license: {licence}
tags:
- ditflow
- motion-transfer
- video-generation
---

# {name}

A motion bank of ditflow: the motions of {number}, to be put into new videos.

{kinds}

Each entry says which clip it is of, by name and sha256, and how it was made: prompts, seed, sizes
and dates. Entries are safetensors files with JSON, and `index.jsonl` is derived from them.

## Use

```python
import ditflow

motion = ditflow.load_motion(pipe, "{repo}", entry="{entry}")  # a pipeline of diffusers
bank = ditflow.MotionBank("hf://datasets/{repo}")  # all entries by name
```

```bash
ditflow bank list hf://datasets/{repo}
ditflow bank pull {repo} bank/
```

## Motions

Colours and arrows are the movement from the first frame to the last: red and right is right,
yellow-green is down, cyan is left, violet is up.

| entry | motion | words or prompt |
| --- | --- | --- |
{rows}

## Licence and source

The entries are under the licence `{licence}`. Source of the clips, as their owner says:

{source}
"""


@dataclass(frozen=True)
class Card:
    """What the owner of a bank says of it; it is never guessed.

    Attributes:
        repo: its dataset, user/name. licence: of its entries, by the hub's name for it. source:
            where the clips are from.
    Raises: BankError where licence or source is missing, or the licence cannot be a name.
    """

    repo: str
    licence: str | None
    source: str | None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.licence or ""):
            raise BankError(
                "A bank on the hub says what its licence is: give --licence with the hub's name of "
                "it, such as cc-by-4.0. Nothing was pushed."
            )
        if not (self.source or "").strip():
            raise BankError(
                "A bank on the hub says where its clips are from: give --source, such as "
                '--source "my own clips". Nothing was pushed.'
            )

    def text(self, rows: Sequence[IndexRow], pictured: Container[str]) -> str:
        """The file, for all entries of the dataset and those that have a picture there."""
        return TEXT.format(
            repo=self.repo,
            name=self.repo.partition("/")[2],
            licence=self.licence,
            source=str(self.source).strip(),
            number=count(len(rows), "clip", "clips"),
            entry=rows[0].name,
            kinds="\n".join(_kinds(rows)),
            rows="\n".join(_rows(rows, pictured)),
        )


def picture_of(bank: MotionBank, name: str) -> bytes | None:
    """The movement of an entry from its first frame to its last, as PNG; None where it keeps
    none.
    """
    from ditflow.visual import flow_colours, png
    from ditflow.visual.fields import arrows_on, enlarged, movement, reach_of

    field = bank[name].field
    if field is None:
        return None
    shape = ROWS, max(1, min(4 * ROWS, round(ROWS * field.aspect)))
    moved, reach = movement(field)[-1], reach_of(field)
    colours = flow_colours(enlarged(moved, shape), reach)
    return png(arrows_on(colours, moved, field.confidence[-1], reach, across=8))


def _kinds(rows: Sequence[IndexRow]) -> Iterator[str]:
    found = Counter((row.variable, row.backbone) for row in rows)
    for (variable, backbone), number in sorted(found.items()):
        if variable == "instant":
            yield f"- {count(number, 'motion field', 'motion fields')}, for any model"
        else:
            yield f"- {number} of optimised {_plain(variable)}, for {_plain(backbone)} alone"


def _rows(rows: Sequence[IndexRow], pictured: Container[str]) -> Iterator[str]:
    for row in rows[:LISTED]:
        picture = f"![]({PICTURES}/{row.name}.png)" if row.name in pictured else ""
        said = " | ".join(filter(None, (row.words, row.prompt if row.guided else "")))
        yield f"| `{row.name}` | {picture} | {_plain(said)} |"
    if len(rows) > LISTED:
        yield f"| and {len(rows) - LISTED} more | | |"


def _plain(text: str) -> str:
    """Text as it is, whatever reads it: letters, digits and commas stay, other signs are
    numbered.
    """
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return re.sub(r"[^\w ,]|_", lambda sign: f"&#{ord(sign[0])};", plain(short))
