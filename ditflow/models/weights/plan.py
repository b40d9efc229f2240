"""A plan for little memory: how a model's weights are kept, where its blocks wait, and whether
activations are computed again.

The fastest plan that fits is chosen before anything is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from ditflow.models.loading import ModelError
from ditflow.models.weights.budget import sized
from ditflow.models.weights.work import Activations, Work

Kind = Literal["none", "int8", "fp8"]

KEPT = 2  # blocks on the device: one that runs, and the one whose backward pass may not be over
LEFT = 0.1  # share of the memory that is left to the device's own context, and to gaps


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's weights: of a `block`, the same in eight bits a weight (`quantised`), and
    of what is outside of the `blocks`. `encoders` are the VAE and the text and image encoders
    together. There may be two `experts`.
    """

    blocks: int
    block: int
    quantised: int
    rest: int
    encoders: int = 0
    experts: int = 1


@dataclass(frozen=True)
class Plan:
    """How a model is kept.

    Attributes:
        quantised: how many bits of each weight of the blocks are kept: all (none), or eight.
        offload: blocks wait on the CPU, and each comes for its turn.
        checkpointing: a block's activations are computed again for its backward pass.
    """

    quantised: Kind = "none"
    offload: bool = False
    checkpointing: bool = False

    def __str__(self) -> str:
        said = ["whole weights" if self.quantised == "none" else f"{self.quantised} weights"]
        said += ["blocks that wait on the CPU"] if self.offload else []
        said += ["checkpointing"] if self.checkpointing else []
        return ", ".join(said)

    def weights(self, weights: Weights) -> int:
        """Bytes of the weights on the device. Of blocks that wait, the one that runs and the one
        after it are there.
        """
        block = weights.block if self.quantised == "none" else weights.quantised
        return weights.rest + block * (
            min(KEPT, weights.blocks) if self.offload else weights.blocks
        )

    def peak(self, weights: Weights, activations: Activations, *, turns: bool) -> int:
        """Bytes on the device, at most.

        Where there are `turns`, the transformer waits elsewhere while encoders are on the device,
        and so does one of two experts. Else all is in one memory. A quantised block that runs has
        its weights in the model's dtype besides, until its backward pass is over.
        """
        own = self.weights(weights)
        update = own + activations.peak(checkpointing=self.checkpointing)
        update += 0 if self.quantised == "none" else weights.block
        if not turns:
            return update + own * (weights.experts - 1) + weights.encoders
        return max(update, weights.encoders + (own if self.offload else 0))


def eight_bits(quantised: Kind | None) -> str:
    """What a spec says of weights that are asked for like this: int8 or fp8, empty for whole."""
    return "" if quantised in (None, "none") else quantised


class Chosen(NamedTuple):
    """A plan, and a sentence that says which one it is, and why."""

    plan: Plan
    why: str


def plans(work: Work, quantised: Kind | None, *, offload: bool = True) -> Iterator[Plan]:
    """Those that are possible, the fastest first. `quantised` None leaves that to the plan.

    Blocks that wait are gone when a backward pass needs them, unless they run again; quantised ones
    would keep what they are not to take. So where something is optimised, these plans have
    checkpointing. Whole blocks that wait take as little as quantised ones, which are whole while
    they run.
    """
    kinds: tuple[Kind, ...] = ("none", "int8") if quantised is None else (quantised,)
    again = (False, True) if work.checkpointing is None else (work.checkpointing,)
    for waits in (False, True) if offload else (False,):
        for kind in kinds[:1] if waits else kinds:
            for checkpointing in again if work.depth else (False,):
                if checkpointing or not work.depth or not (waits or kind != "none"):
                    yield Plan(kind, waits, checkpointing)


def choose(
    name: str,
    memory: int,
    weights: Weights,
    activations: Activations,
    work: Work,
    quantised: Kind | None,
    *,
    turns: bool,
) -> Chosen:
    """The fastest plan of a model that fits into so many bytes, of which some are left free. Where
    there are no `turns`, blocks have nowhere to wait.

    Raises ModelError where none fits: what the smallest takes, and what to do.
    """
    needs = {
        plan: plan.peak(weights, activations, turns=turns)
        for plan in plans(work, quantised, offload=turns)
    }
    why = "it is the fastest"
    for plan, needed in needs.items():
        if needed <= memory * (1 - LEFT):
            of = f"{sized(needed)} of {sized(memory)}"
            return Chosen(plan, f"{plan} ({of} at the peak, estimated): {why}")
        why = f"{plan} would take {sized(needed)}"
    asked = f"{work.size}" if work.batch_size == 1 else f"{work.batch_size} videos of {work.size}"
    if not needs:
        raise ModelError(
            f"gradient_checkpointing false goes with whole weights only, and {quantised} weights "
            "were asked for: leave one of them out."
        )
    smallest = min(needs, key=lambda plan: needs[plan])
    least = math.ceil(needs[smallest] / (1 - LEFT))
    without = smallest.peak(replace(weights, encoders=0), activations, turns=turns)
    fix = "fewer --data.frames, a smaller --data.size or --data.batch_size, or more memory"
    if turns and without < needs[smallest]:
        fix = f"more memory: its encoders alone take {sized(weights.encoders)}"
    raise ModelError(
        f"{name!r} at {asked} does not fit into {sized(memory)}. The smallest plan, {smallest}, "
        f"needs {sized(least)}. Use {fix}."
    )
