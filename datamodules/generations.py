"""Videos to be made from a bank: which entry, which prompt, which seed, and the file that each
becomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.manifest import ManifestError, Pairing, check_values, read_prompts, video_name
from ditflow.bank import MotionBank


@dataclass(frozen=True)
class Generation:
    """One video. `negative_prompt` None means the entry's own."""

    entry: str
    prompt: str
    negative_prompt: str | None
    seed: int
    file: Path


def generations_of(
    bank: MotionBank,
    prompts: str | None,
    *,
    entries: Sequence[str] | None,
    negative_prompt: str | None,
    seeds: Sequence[int],
    folder: Path,
) -> list[Generation]:
    """Every entry with every prompt of a text file, or the pairs of a CSV or JSONL file; each with
    every seed, unless a pair has its own.

    Raises ValueError where there is nothing to do, where a pair or `entries` names an entry that
    the bank does not have, and where two videos would be one file.
    """
    if prompts is None:
        raise ManifestError(
            "name the prompts by --data.prompts prompts.txt, a prompt on each line, or a CSV file with the columns entry,prompt."
        )
    if not seeds:
        raise ManifestError("--data.seeds is empty: give one seed or more.")
    for seed in seeds:
        check_values({"seed": seed}, "--data.seeds")
    names = list(entries) if entries is not None else list(bank)
    if not names:
        raise ManifestError(f"the bank {bank.path} has no entries: make some with `ditflow fit`.")
    pairs = [pair for pair in _pairs(prompts, names) if entries is None or pair.entry in names]
    if unknown := {pair.entry for pair in pairs} - set(bank):
        raise ManifestError(
            f"the bank {bank.path} has no entry {', '.join(sorted(map(repr, unknown)))}: see `ditflow bank list {bank.path}`."
        )
    wanted = dict.fromkeys(
        (pair.entry, pair.prompt, seed, pair.name)
        for pair in pairs
        for seed in ([pair.seed] if pair.seed is not None else seeds)
    )
    generations = [
        Generation(
            entry,
            prompt,
            negative_prompt,
            seed,
            folder / (f"{name}.mp4" if name is not None else video_name(entry, prompt, seed)),
        )
        for entry, prompt, seed, name in wanted
    ]
    _check_files(generations, prompts)
    return generations


def _check_files(generations: Sequence[Generation], where: str) -> None:
    """Raise ManifestError where two videos would be one file."""
    seen: dict[Path, Generation] = {}
    for new in generations:
        if (old := seen.setdefault(new.file, new)) is not new:
            both = " and ".join(
                f"{one.entry!r} with {one.prompt!r:.80} and seed {one.seed}" for one in (old, new)
            )
            raise ManifestError(
                f"{where} names two videos {new.file.stem!r} ({both}): give each a name of its own in the column 'name', "
                "and a row with a name a seed of its own, or leave the names out."
            )


def _pairs(prompts: str, names: Sequence[str]) -> list[Pairing]:
    rows = read_prompts(prompts)
    pairs, lines = (
        [row for row in rows if isinstance(row, Pairing)],
        [row for row in rows if isinstance(row, str)],
    )
    return pairs + [Pairing(name, line) for name in names for line in lines]
