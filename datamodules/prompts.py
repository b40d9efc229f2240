"""Prompts for the entries of a bank, and the videos to be made of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.queue.generation_queue import Generation
from datamodules.rows import (
    ManifestError,
    Row,
    check_name,
    check_values,
    integer,
    picture,
    read_rows,
    read_text,
)
from ditflow.bank import MotionBank
from ditflow.files import expanded
from ditflow.video_provenance import read_provenance

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv")


@dataclass(frozen=True)
class Pairing:
    """One entry with one prompt. `seed` None stands for each of the seeds asked for; `name` None
    for a file name made of entry, prompt, image and seed. `image` "" stands for the image of all.
    """

    entry: str
    prompt: str
    seed: int | None = None
    name: str | None = None
    image: str = ""

    def files(self, seeds: Sequence[int]) -> list[tuple[int, str]]:
        """Each seed with the file name of its video."""
        told = self.entry, self.prompt
        return [
            (seed, f"{self.name}.mp4" if self.name else video_name(*told, seed, self.image))
            for seed in ([self.seed] if self.seed is not None else seeds)
        ]


def read_prompts(path: str | Path) -> list[str] | list[Pairing]:
    """The lines of a text file (prompts for every entry), or the rows of a CSV or JSONL file
    (`entry,prompt[,seed,name,image]`), or the prompt that a video was made with.

    Blank lines at the end of a text file are left out. A blank line elsewhere is refused, because
    it may stand for an empty prompt or for nothing.
    """
    path = expanded(path)
    if path.suffix.lower() in (".csv", ".jsonl"):
        rows = read_rows(path, required={"entry", "prompt"}, optional={"seed", "name", "image"})
        return [_pairing(row, where, path.parent) for where, row in rows]
    if path.suffix.lower() in VIDEOS:
        return [read_provenance(path).prompt]
    lines = [line.strip() for line in read_text(path).rstrip().split("\n")]
    if not any(lines):
        raise ManifestError(f"{path} holds no prompt: write one on each line.")
    if "" in lines:
        raise ManifestError(
            f"{path} line {lines.index('') + 1} is blank: remove it, or use a CSV file with the "
            "columns entry,prompt for an empty prompt."
        )
    for number, line in enumerate(lines, start=1):
        check_values({"prompt": line}, f"{path} line {number}")
    return lines


def video_name(entry: str, prompt: str, seed: int, image: str = "") -> str:
    """File name of the video of an entry, a prompt, a seed, and perhaps an image.

    A part of the prompt's hash tells prompts apart that look alike in a file name.
    """
    slug = _slug(prompt) or "no-prompt"
    slug += f"-{hashlib.sha256(prompt.encode()).hexdigest()[:6]}"
    slug += f"-{_slug(Path(image).stem) or 'image'}" if image else ""
    return f"{entry}-{slug}-seed{seed}.mp4"


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:48].strip("-")


def generations_of(
    bank: MotionBank,
    prompts: str | None,
    *,
    entries: Sequence[str] | None,
    negative_prompt: str | None,
    seeds: Sequence[int],
    folder: Path,
    image: str = "",
) -> list[Generation]:
    """Every entry with every prompt of a text file, or the pairs of a CSV or JSONL file; each with
    every seed, unless a pair has its own. `image` is for pairs without their own.

    Raises ValueError where there is nothing to do, where a pair or `entries` names an entry that
    the bank does not have, and where two videos would be one file.
    """
    if prompts is None:
        raise ManifestError(
            "name the prompts by --data.prompts prompts.txt, a prompt on each line, or a CSV file "
            "with the columns entry,prompt."
        )
    if not seeds:
        raise ManifestError("--data.seeds is empty: give one seed or more.")
    for seed in seeds:
        check_values({"seed": seed}, "--data.seeds")
    pairs = [replace(x, image=x.image or image) for x in _pairs(bank, prompts, entries)]
    wanted = dict.fromkeys(
        Generation(pair.entry, pair.prompt, negative_prompt, seed, folder / file, pair.image)
        for pair in pairs
        for seed, file in pair.files(seeds)
    )
    _check_files(list(wanted), prompts)
    return list(wanted)


def _pairing(row: Row, where: str, folder: Path) -> Pairing:
    if not (isinstance(row["entry"], str) and isinstance(row["prompt"], str)):
        raise ManifestError(
            f"{where}: entry is {row['entry']!r:.80} and prompt {row['prompt']!r:.80}, but they "
            "must be text."
        )
    seed = integer(row, "seed", None, where)
    check_values({"prompt": row["prompt"], "seed": seed}, where)
    if (name := row.get("name")) is not None:
        check_name(name, where)
    return Pairing(row["entry"], row["prompt"], seed, name, picture(row, where, folder))


def _pairs(bank: MotionBank, prompts: str, entries: Sequence[str] | None) -> list[Pairing]:
    """The pairs whose entry is wanted. Raises ManifestError for an entry that the bank lacks."""
    known = set(bank)
    names = list(entries) if entries is not None else sorted(known)
    if not names:
        raise ManifestError(f"the bank {bank.path} has no entries: make some with `ditflow fit`.")
    rows = read_prompts(prompts)
    pairs = [row for row in rows if isinstance(row, Pairing)]
    pairs = [pair for pair in pairs if entries is None or pair.entry in names]
    pairs += [Pairing(name, row) for name in names for row in rows if isinstance(row, str)]
    if unknown := {pair.entry for pair in pairs} - known:
        raise ManifestError(
            f"the bank {bank.path} has no entry {', '.join(sorted(map(repr, unknown)))}: see "
            f"`ditflow bank list {bank.path}`."
        )
    return pairs


def _check_files(generations: Sequence[Generation], where: str) -> None:
    """Raise ManifestError where two videos would be one file."""
    seen: dict[Path, Generation] = {}
    for new in generations:
        if (old := seen.setdefault(new.file, new)) is not new:
            both = " and ".join(
                f"{one.entry!r} with {one.prompt!r:.80} and seed {one.seed}" for one in (old, new)
            )
            raise ManifestError(
                f"{where} names two videos {new.file.stem!r} ({both}): give each a name of its own "
                "in the column 'name', and a row with a name a seed of its own, or leave the names "
                "out."
            )
