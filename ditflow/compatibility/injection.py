"""Injection: how an entry acts on a generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from torch import Tensor

from ditflow.bank import BankEntry
from ditflow.bank.kinds import AnyEntry
from ditflow.core.schedule import Window, check_window
from ditflow.fields.changes import pictures_in
from ditflow.fields.noise import check_share
from ditflow.sampling.placement import Passes, Placement
from ditflow.video import Mask, read_mask


@dataclass(frozen=True, kw_only=True)
class Injection:
    """How an entry acts on a generation. None is what the entry or the model recommends.

    `strength` 1 is the motion as it is, 0 none of it. `passes` and `motion_scale` are those of
    `Placement`. Blocks of `injection_blocks` have keys and values of the entry's reference latents.
    `change` says what is made of the motion before (see `ditflow.fields.changes`). For fields
    alone, `window` says in which steps tokens follow one, and `noise_share` how much of the initial
    noise does. `masks` are the pictures that the change names, by these names; those that are not
    given are read.
    """

    strength: float = 1.0
    passes: Passes | None = None
    motion_scale: float | None = None
    injection_blocks: Sequence[int] = ()
    window: Window | None = None
    noise_share: float | None = None
    change: str | None = None
    masks: Mapping[str, Mask] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError for what makes no sense on any model, and for a mask that the change
        names and that cannot be read.
        """
        self.placement("conditional")
        check_share(self.noise_share or 0.0)
        check_window(1.0 if self.window is None else self.window)
        names = pictures_in(self.change or "")
        # read once, now: a mistake is told before there is work, and the file may go or change
        masks = {name: self.masks.get(name) or read_mask(name) for name in names}
        object.__setattr__(self, "masks", masks)

    @property
    def regions(self) -> dict[str, Tensor]:
        """What the masks show, by their names."""
        return {name: mask.region for name, mask in self.masks.items()}

    def of(self, entry: AnyEntry) -> Injection:
        """The same for an entry, which has a window and noise of its own if it was optimised."""
        optimised = isinstance(entry, BankEntry)
        return replace(self, window=None, noise_share=None) if optimised else self

    def placement(self, passes: str) -> Placement:
        """Where positions act; `passes` are recommended."""
        chosen = cast(Passes, passes if self.passes is None else self.passes)
        if self.passes is None and self.motion_scale is not None:
            chosen = "conditional"
        return Placement(chosen, self.strength, self.motion_scale)
