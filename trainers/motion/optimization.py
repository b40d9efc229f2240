"""Guided denoising and injection as a LightningModule: the wiring around
`ditflow.sampling.optimise`, which holds the method.

One training step is one denoising step of a batch of clips, guided where it lies in the window. The
backbone is frozen and stays outside the module tree, where no checkpoint, cast or synchronisation
sees it; what is optimised lives in a `State` that is replaced as a whole, so that it can be
saved between any two steps.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import replace
from functools import cached_property
from typing import Any

import lightning as L
import torch

from datamodules.batching import Batching, MotionBatch
from datamodules.encoding_cache import EncodingCache
from datamodules.faults import BROKEN, FAILS
from datamodules.motion_tasks import MotionTaskModule
from datamodules.queue.generation_queue import Batch, Generation
from ditflow.compatibility import Injection
from ditflow.core.schedule import GuidanceKind, Scale
from ditflow.models import Model
from ditflow.models.weights.plan import Kind
from ditflow.motion import MotionSignal
from ditflow.sampling.guidance import Begin, Update
from ditflow.sampling.placement import Passes
from ditflow.sampling.recipe import Choices, Recipe
from ditflow.sampling.savings import Savings
from ditflow.sampling.variables import Variable
from trainers.motion.batch_size import settled
from trainers.motion.generated import alike, generated
from trainers.motion.memory import loaded
from trainers.motion.signal_option import VariableKind, signal_of, variable_kind
from trainers.motion.strategy import check_precision, check_strategy
from trainers.motion.videos import Video, check_videos
from trainers.motion.work import Work, advanced, decoded, resumed


class MotionOptimization(L.LightningModule):
    """Takes the motion of clips (`fit`) and gives it to new videos (`predict`).

    An option that is None takes the value recommended for the backbone, or in `predict` that of an
    optimised entry, unless its text says otherwise.

    Args:
        backbone: The video model: the name of a shipped one, a folder in diffusers format, or a
            hub id.
        lora: LoRAs to merge in: PATH[:SCALE], before it high= or low= for an expert. Needs PEFT.
        variable: What is optimised: latents, rotary_positions, rotary_tables or sinusoidal.
        signal: The representation of motion: amf, smm, moft, motionclone, motionflow, or a class
            with its options. With null the clip only gives its keys and values.
        signal_arguments: Options of the signal, such as '{temperature: 3}', else as published.
        block: The transformer block that the signal reads, counted from 0.
        window: The denoising steps that are guided: a fraction from 0 to 1, counted from the first
            step; the index of the first guided step and of the first after them; or noise:SIGMA,
            down to that level of noise. In `predict`, those in which tokens follow a field.
        learning_rate: Two learning rates, from 0 up, in units of the variable. The rate goes from
            the first one, at the first guided step, towards the second one.
        inner_steps: Updates at each guided step, at least 1.
        update: How the variable is updated: adam, sgd (plain gradient descent), or score.
            The last, of MotionClone, changes the latents after the step.
        savings: Approximations of the optimisation, such as "reuse 3, stop .02, pairs neighbours".
        steps: Number of denoising steps.
        guidance_scale: Scale of classifier-free guidance, which strengthens the prompt; a model
            with two experts may have two. At 1 a step is a single pass.
        guidance: How the guidance scale changes over the steps. None is as published for the
            scheduler, and in `predict` that of the entry.
        injection_blocks: Blocks, counted from 0, that use the clip's keys and values in the guided
            steps. In `predict`, None means no block.
        strength: How much of an entry's motion `predict` gives to a video: 1 all, 0 none.
        passes: Which passes of classifier-free guidance have the motion: conditional, or both.
        motion_scale: Scale of the motion in `predict` by a third pass; None is the prompt's.
        begin: Where optimised positions begin: own, the model's places, or field, where the motion
            field of the clip puts them.
        noise_share: How much of the initial noise moves along the field of the clip, from 0 to 1.
            In `predict` it is for entries that are fields: an optimised one brings its own.
        change: In `predict`, what is made of a motion before, such as "mirrored, paced 2".
        dtype: Number format of the backbone: float32, bfloat16 or float16.
        quantised: Keep eight bits of each weight, as int8 or fp8, or none for all of them. None is
            all, unless `memory` is short. Needs torchao.
        memory: What may be taken of the device, such as 24GiB. The fastest plan that fits is
            chosen, and said: whole or quantised weights, checkpointing, blocks that wait on the
            CPU.
        compile: Compile the blocks: passes are faster, but the first ones wait for a compiler.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, more time.
        keep_reference: Store the clip's latents in the entry. With them `predict` can inject keys
            and values without the clip.
        finish: Also denoise to the end and write the video, not only the entry.
        fps: Frames per second of the videos that are written, above 0.
    """

    def __init__(
        self,
        backbone: str = "tiny-rope",
        *,
        lora: list[str] | str | None = None,
        variable: VariableKind | type[Variable] | None = None,
        signal: MotionSignal | str | None = "amf",
        signal_arguments: dict[str, Any] | None = None,
        block: int | None = None,
        window: float | tuple[int, int] | str | None = None,
        learning_rate: tuple[float, float] | None = None,
        inner_steps: int | None = None,
        update: Update = "adam",
        savings: str | None = None,
        steps: int | None = None,
        guidance_scale: Scale | None = None,
        guidance: GuidanceKind | None = None,
        injection_blocks: list[int] | None = None,
        strength: float = 1.0,
        passes: Passes | None = None,
        motion_scale: float | None = None,
        begin: Begin | None = None,
        noise_share: float | None = None,
        change: str | None = None,
        dtype: str | None = None,
        quantised: Kind | None = None,
        memory: int | float | str | None = None,
        compile: bool = False,
        gradient_checkpointing: bool | None = None,
        keep_reference: bool = False,
        finish: bool = False,
        fps: float = 8.0,
    ) -> None:
        super().__init__()
        check_videos(fps, wanted=signal is not None or finish)
        self.automatic_optimization = False
        both = dict(window=window, passes=passes, noise_share=noise_share)
        updates = dict(update=update, learning_rate=learning_rate, inner_steps=inner_steps)
        updates |= dict(begin=begin, savings=Savings.parsed(savings or ""))
        denoised = dict(steps=steps, guidance_scale=guidance_scale, guidance=guidance)
        blocks = None if injection_blocks is None else tuple(injection_blocks)
        self.choices = Choices(
            **both,
            **updates,
            **denoised,
            variable=variable_kind(variable),
            signal=signal_of(signal, signal_arguments, block),
            injection_blocks=blocks,
            checkpointing=gradient_checkpointing,
        )
        placed = dict(strength=strength, motion_scale=motion_scale, injection_blocks=blocks or ())
        self.injection = Injection(**both, **placed, change=change)
        self.name, self.reads_images = backbone, True
        kept = {"quantised": quantised, "memory": memory, "compile": compile}
        self.loaded_as = {"dtype": dtype, "lora": lora or (), **kept}
        self.keep_reference, self.finish, self.fps = keep_reference, finish, fps
        self.work: Work | None = None

    @cached_property
    def backbone(self) -> Model:
        return loaded(self, self.trainer.datamodule)

    @cached_property
    def recipe(self) -> Recipe:
        return self.choices.on(self.backbone)

    @property
    def iterations(self) -> int:
        """Denoising steps of each clip: all if its video is wanted, else to the window's end."""
        return len(self.recipe.schedule) if self.finish else self.recipe.window.stop

    @property
    def at(self) -> str:
        """What this process is at, in words."""
        return "" if self.work is None else self.work.at(self.iterations)

    def batching(self, data: MotionTaskModule) -> Batching:
        """What a batch is made of: encoded clips and prompts."""
        size = data.size_on(self.backbone.spec.size)
        cache = EncodingCache(data.cache_folder, self.backbone, size, auto=data.frames == "auto")
        guidance = self.recipe.guidance
        return Batching(cache, guidance.signal, guidance.follows)

    def batch_size(self, most: int) -> int:
        """How many clips or videos, of so many, are the fastest to work on together here."""
        return settled(self, self.trainer.datamodule, most)

    def setup(self, stage: str) -> None:
        check_precision(self.trainer)
        check_strategy(self.trainer)
        if stage == "fit":
            self.trainer.datamodule.share_out()
        elif stage == "predict":
            self.trainer.datamodule.share_videos()

    def configure_optimizers(self) -> None:
        """Adam is fresh inside each denoising step; Lightning's stand-in counts these."""

    def training_step(self, item: tuple[MotionBatch, int], batch_idx: int) -> dict[str, Any] | None:
        """One denoising step of a batch of clips. Returns the work, and the videos that are wanted
        after the last; None where the batch was given up.
        """
        batch, step = item
        self.optimizers().step()
        began = time.monotonic()
        try:
            work = advanced(self._work(batch))
            videos = decoded(work) if self.finish and work.state.step == self.iterations else None
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # so that the step's seconds are its own
            self.work = replace(work, seconds=work.seconds + time.monotonic() - began)
        except BROKEN:
            raise
        except FAILS as error:
            failure = error.with_traceback(None)  # whose frames would keep the batch's memory
        else:
            if self.recipe.guided.covers(self.recipe.schedule[step]):
                loss = self.work.state.losses[-1][-1].mean()
                self.log("loss", loss, prog_bar=True, batch_size=len(batch.tasks))
            return {"work": self.work, "videos": videos}
        self.work = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.trainer.datamodule.outcomes.give_up(batch, failure)
        return None

    def on_train_epoch_end(self) -> None:
        """One epoch does it all, whatever the Trainer's limit."""
        self.trainer.should_stop = True

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> list[tuple[Generation, Video]]:
        """The videos of a batch that could be made."""
        return generated(self, self.trainer.datamodule, batch)

    def alike(self, item: Generation) -> Hashable:
        """What videos have in common that are made together."""
        return alike(self, self.trainer.datamodule, item)

    def _work(self, batch: MotionBatch) -> Work:
        """The work on a batch: that in hand, or that of its record, or new work."""
        if self.work is not None and self.work.batch.leg is batch.leg:
            return self.work
        return resumed(self.recipe, batch, self.trainer.datamodule.bank, self.device)
