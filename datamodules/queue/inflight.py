"""In-flight records: where a batch of clips has come to, kept in the bank until its entries are
there.

The state is one record, replaced after each iteration; the parameter of each guided step is a
record of its own, written once and before the state that counts on it. So the cost of an
iteration's record does not grow, and a process may be killed between any two writes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ditflow.bank import EntryError, MotionBank
from ditflow.bank.validation import Check, integer, many, normal, number, text

if TYPE_CHECKING:
    import torch

    from ditflow.sampling.state import State

PART = re.compile(r"(.+)\.guided\d{4,}")
FIELDS: dict[str, Check] = {
    "names": many(text(128), 1, 1 << 16),
    "settings": text(64),
    "step": integer(0, 1 << 20),
    "steps": integer(1, 1 << 20),
    "seconds": number(0, 1e12),
    "losses": many(number(-1e30, 1e30), 0, 1 << 16),
}


@dataclass(frozen=True)
class InflightBatch:
    """A batch that was begun. `settings` tells it from the same clips optimised in another way;
    `step` is its next of `steps`.

    `seconds` were spent on it; `losses` has the last loss of each clip, and is empty before the
    first guided step.
    """

    key: str
    names: tuple[str, ...]
    settings: str
    step: int
    steps: int
    seconds: float
    losses: tuple[float, ...]


def key_of(names: Sequence[str], settings: str) -> str:
    """Where the state of these clips under these settings is kept."""
    return (
        f"{names[0][:64]}-{hashlib.sha256('/'.join([*names, settings]).encode()).hexdigest()[:16]}"
    )


def save(
    bank: MotionBank,
    names: Sequence[str],
    settings: str,
    state: State,
    seconds: float,
    *,
    steps: int,
    guided: bool,
) -> None:
    """Keep the state after one of so many steps; `guided` says whether it added to the history,
    `seconds` what has been spent so far.
    """
    import torch

    key = key_of(names, settings)
    if guided:
        bank.save_inflight(_part(key, len(state.history) - 1), {"parameter": state.history[-1]}, {})
    tensors = replace(state, history=(), losses=()).tensors()
    losses = {"losses": torch.stack(state.losses)} if state.losses else {}
    metadata = {
        "names": list(names),
        "settings": settings,
        "step": state.step,
        "steps": steps,
        "seconds": seconds,
        "guided": len(state.history),
    }
    bank.save_inflight(
        key,
        tensors | losses,
        metadata | {"losses": state.losses[-1][-1].tolist() if state.losses else []},
    )


def load(bank: MotionBank, key: str, device: torch.device | str = "cpu") -> tuple[State, float]:
    """The state as it was saved, and the seconds spent on it. Raises EntryError where a part of it
    is missing or damaged.
    """
    from ditflow.sampling.state import State

    try:
        tensors, metadata = _load(bank, key)
        history = tuple(
            _load(bank, _part(key, index))[0]["parameter"] for index in range(metadata["guided"])
        )
        return replace(State.from_tensors(tensors, device), history=history), metadata["seconds"]
    except (KeyError, TypeError) as error:
        raise EntryError(f"in-flight record {key!r} is not a whole state ({error}).") from error


def begun(bank: MotionBank) -> Iterator[InflightBatch]:
    """The batches that a bank holds states of, by their headers. A state that cannot be read is
    left out.
    """
    for key in bank.inflight():
        if not PART.fullmatch(key) and (batch := _header(bank, key)) is not None:
            yield batch


def next_step(bank: MotionBank, key: str) -> int | None:
    """Where a batch goes on, by headers alone; None where its state or a part of its history is
    missing, cut short or no record.
    """
    with suppress(EntryError, KeyError, TypeError):
        batch, metadata = _header(bank, key), bank.inflight_metadata(key)
        if batch and all(
            bank.inflight_metadata(_part(key, index)) is not None
            for index in range(metadata["guided"])
        ):
            return batch.step
    return None


def restore(
    bank: MotionBank,
    names: Sequence[str],
    settings: str,
    state: State,
    seconds: float,
    *,
    steps: int,
) -> None:
    """Keep a state that comes from elsewhere, history and all, unless the bank knows of a later
    one.
    """
    key = key_of(names, settings)
    if (next_step(bank, key) or 0) < state.step:
        for index, parameter in enumerate(state.history):
            bank.save_inflight(_part(key, index), {"parameter": parameter}, {})
        save(bank, names, settings, state, seconds, steps=steps, guided=False)


def drop(bank: MotionBank, key: str) -> None:
    """Forget a batch, its state last: stopped in between, the next run finds it and forgets the
    rest.
    """
    for part in bank.inflight():
        if (match := PART.fullmatch(part)) and match[1] == key:
            bank.drop_inflight(part)
    bank.drop_inflight(key)


def _header(bank: MotionBank, key: str) -> InflightBatch | None:
    try:
        metadata = bank.inflight_metadata(key) or {}
    except EntryError:
        return None
    with suppress(ValueError):
        return InflightBatch(
            key, **normal(FIELDS, {name: metadata[name] for name in FIELDS if name in metadata})
        )
    return None


def _part(key: str, index: int) -> str:
    return f"{key}.guided{index:04d}"


def _load(bank: MotionBank, key: str) -> tuple[dict[str, torch.Tensor], dict]:
    found = bank.load_inflight(key)
    if found is None:
        raise EntryError(
            f"in-flight record {key!r} is missing: remove the folder inflight from the bank to "
            "start its clips again."
        )
    return found
