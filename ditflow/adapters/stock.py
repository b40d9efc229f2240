"""Motion on the pipelines of diffusers: `load_motion` puts it there, `fit_motion` takes it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from ditflow.adapters.motion import LoadedMotion, check_free, checked_strength, loaded_on
from ditflow.adapters.pipeline import as_it_was, model_of, transformers_of
from ditflow.bank import BankEntry, BankError, FieldEntry, MotionBank, hub
from ditflow.bank.errors import UnknownEntryError
from ditflow.bank.kinds import AnyEntry
from ditflow.compatibility import Injection
from ditflow.core.given import check_kind
from ditflow.fields.field import MotionField
from ditflow.models import ModelError
from ditflow.transfer import Transfer, transfer_motion
from ditflow.video import Clip


def load_motion(
    pipe: Any,
    motion: AnyEntry | MotionField | str | os.PathLike[str],
    *,
    entry: str | None = None,
    strength: float | None = None,
    how: Injection | None = None,
) -> LoadedMotion:
    """Put a motion on a diffusers pipeline, whose next videos move by it.

        pipe = CogVideoXPipeline.from_pretrained("THUDM/CogVideoX-5b")
        motion = load_motion(pipe, "bank/car", strength=0.8)
        video = pipe("a red kite over the sea", num_inference_steps=50).frames[0]
        motion.strength = 0.5
        motion.remove()  # or `with load_motion(...):`

    `motion` is a bank entry, a motion field, or the place of an entry: "bank/car", or a bank's
    folder, URL or hub id "user/name" together with the name of an `entry`. `how` it acts is an
    `Injection`, whose strength `strength` replaces. Any scheduler of diffusers may be in the
    pipeline: the steps of an entry are found by their noise.

    Raises ModelError for a pipeline of another kind, BankError where no entry is, EntryError for
    one that does not fit, and ValueError for a pipeline that has a motion already. Nothing is left
    in the pipeline then.
    """
    how = Injection() if how is None else how
    if strength is not None:
        how = replace(how, strength=checked_strength(strength))
    kinds = (BankEntry, FieldEntry, MotionField)
    words = "an entry (of a Transfer, its .entry), a MotionField, or the place of an entry"
    check_kind("load_motion", motion, (*kinds, str, os.PathLike), words)
    if not isinstance(motion, kinds):
        motion = _found(motion, entry)
    elif entry is not None:
        raise ValueError(f"entry={entry!r:.80} names one of a bank, and a motion is given already.")
    return LoadedMotion(pipe, motion, how)


def unload_motion(pipe: Any) -> None:
    """Take the motion off a pipeline, as `remove` of what `load_motion` gave does. Where there is
    none it does nothing.
    """
    for motion in loaded_on(pipe):
        motion.remove()


def fit_motion(pipe: Any, clip: Clip, prompt: str, **options: Any) -> Transfer:
    """Optimise the motion of a clip on a diffusers pipeline, which stays as it was.

    The pipeline's own modules are used, so nothing is loaded twice. `options` are those of
    `transfer_motion`, which says what is returned and raised. The `entry` of what it gives goes to
    a bank, and back to any pipeline by `load_motion`.
    """
    check_free(pipe)
    for transformer in transformers_of(pipe):
        if getattr(transformer, "is_cache_enabled", False):
            raise ModelError(
                "a cache of diffusers is enabled, and skips passes that are optimised: call "
                "pipe.transformer.disable_cache() first."
            )
    with as_it_was(pipe):
        return transfer_motion(model_of(pipe), clip, prompt, **options)


def _found(place: str | os.PathLike[str], entry: str | None) -> AnyEntry:
    """The entry at a place. Raises BankError where none is."""
    bank = os.fspath(place).rstrip("/")
    if entry is None:
        bank, slash, entry = bank.rpartition("/")
        if not slash:
            raise BankError(
                f"{entry!r:.80} names a bank or an entry, and both are needed: give 'bank/car', or "
                "the bank together with entry='car'."
            )
    elif bank.startswith("starter/") and not os.path.exists(bank):
        raise BankError(
            f"{bank!r:.80} names an entry of the starter bank, and entry={entry!r:.80} names one "
            "again: give one of them, such as 'starter/orbit'."
        )
    elif hub.is_hub_id(bank) and not os.path.exists(bank):
        bank = hub.hub_url(bank)
    try:
        return MotionBank(bank)[entry]
    except UnknownEntryError:
        raise UnknownEntryError(f"The bank {bank} has no entry {entry!r:.200}.") from None
