"""A batch of clips at work: how it begins, one step of it, and the entries that come of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datamodules.batching import MotionBatch
from datamodules.frames import FrameBatch
from datamodules.manifest import WORDS
from datamodules.queue import inflight
from ditflow.bank import BankEntry, MotionBank, Provenance
from ditflow.provenance import entries_of, moving
from ditflow.sampling.control import Control, Prompt
from ditflow.sampling.loop import denoising_step
from ditflow.sampling.recipe import Recipe
from ditflow.sampling.state import State
from ditflow.video import READER


@dataclass(frozen=True)
class Work:
    """A batch and how far it has come. `seconds` were spent on it, in this run and before."""

    recipe: Recipe
    batch: MotionBatch
    control: Control
    state: State
    seconds: float = 0.0

    def at(self, steps: int) -> str:
        """The first clip, how many others there are, the step and the loss, in words."""
        names, state = self.batch.leg.names, self.state
        clip = names[0] if len(names) == 1 else f"{names[0]}+{len(names) - 1}"
        loss = f" loss {state.losses[-1][-1].mean():.4g}" if state.losses else ""
        return f"{clip} {state.step}/{steps}{loss}"

    def entries(self, *, keep_reference: bool = False) -> dict[str, BankEntry]:
        """The bank entries of a batch whose window is behind it, by name; none without a signal.

        `keep_reference` puts the clips' latents into them.
        """
        if self.recipe.guidance.signal is None:
            return {}
        batch = self.batch
        entries = entries_of(self.recipe, batch.size, self.state, sources_of(batch), self.seconds)
        kept = batch.latents.cpu().unbind() if keep_reference else [None] * len(entries)
        fields = batch.fields or [None] * len(entries)
        return {
            name: replace(moving(entry, field), reference_latents=latents)
            for name, entry, field, latents in zip(
                batch.leg.names, entries, fields, kept, strict=True
            )
        }


def begun(
    recipe: Recipe, batch: MotionBatch, state: State | None = None, seconds: float = 0.0
) -> Work:
    """Work on a batch from where a state has come to, or from noise. Looks at the references."""
    names = batch.leg.names
    if state is None:
        seeds = [task.seed for task in batch.tasks]
        fields = [field for field in batch.fields if field is not None]
        state = recipe.guidance.start(recipe.backbone, batch.size, names, seeds, fields)
    clips = batch.latents, batch.seen_with, names
    control = recipe.control(*clips, state.noise, batch.words, batch.first, state.step)
    return Work(recipe, batch, control, state, seconds)


def resumed(recipe: Recipe, batch: MotionBatch, bank: MotionBank, device: torch.device) -> Work:
    """Work on a batch from its record in the bank, or new work where it has none."""
    batch, record = batch.to(device), batch.leg.record
    if record is None:
        return begun(recipe, batch)
    return begun(recipe, batch, *inflight.load(bank, record, device))


def advanced(work: Work) -> Work:
    """The work after one more denoising step. Raises ArithmeticError where numbers overflow."""
    step = work.recipe.schedule[work.state.step]
    prompt = Prompt(work.batch.text, work.batch.negative, work.batch.picture)
    state = denoising_step(work.recipe.backbone, step, prompt, work.state, work.control)
    moved = [state.latents] if state.parameter is None else [state.latents, state.parameter]
    if not all(tensor.isfinite().all() for tensor in moved):
        raise ArithmeticError(
            f"its numbers are no longer finite after step {step.index}: try a smaller learning "
            "rate, or dtype float32."
        )
    return replace(work, state=state)


def decoded(work: Work) -> Tensor:
    """The videos of a batch, uint8 (B, T, C, Y, X). Frees the encoders afterwards."""
    videos = work.recipe.backbone.decode(work.state.latents)
    work.recipe.backbone.release_encoders()
    return videos


def sources_of(batch: MotionBatch | FrameBatch) -> list[Provenance]:
    """Where each entry of a batch comes from."""
    same = ("prompt", "seed", "tags", "start", "stride", *WORDS)
    return [
        Provenance(
            clip=task.name,
            clip_sha256=sha256,
            container=container,
            image_sha256=image,
            reader=READER,
            negative_prompt=task.negative_prompt or "",
            fps=task.fps or 0.0,
            **{name: getattr(task, name) for name in same},
        )
        for task, sha256, container, image in zip(
            batch.tasks, batch.sha256, batch.containers, batch.image_sha256, strict=True
        )
    ]
