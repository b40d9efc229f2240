"""Callbacks around the steps: they keep the bank up to date and write videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint

from datamodules.queue import inflight
from datamodules.queue.generation_queue import Generation
from ditflow.bank import EntryError
from ditflow.files import make_folder
from ditflow.sampling.state import State
from ditflow.video import write_video
from trainers.motion.instant import InstantMotion
from trainers.motion.optimization import MotionOptimization
from trainers.motion.videos import Video, finished, named_in
from trainers.motion.work import Work


class Conclusion(Checkpoint):
    """Brings the bank's index up to date at the end of `fit`, and keeps Lightning from writing
    checkpoints that nobody has asked for.
    """

    def on_fit_end(self, trainer: Trainer, module: MotionOptimization | InstantMotion) -> None:
        """Write the index and settle the requests, on rank 0, which stays to the end.

        The next run does so for one that was killed before, even if it has no clip to do.
        """
        bank = trainer.datamodule.bank
        if trainer.is_global_zero and bank.requests.names():
            bank.reindex()
            _, done = trainer.datamodule.outcome()
            bank.requests.settle({*bank, *bank.failures(), *done})


class FieldWriter(Conclusion):
    """Puts the fields of a batch into the bank."""

    def on_train_batch_end(
        self, trainer: Trainer, module: InstantMotion, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs:
            trainer.datamodule.outcomes.publish(outputs["batch"], outputs["entries"])


class BankWriter(Conclusion):
    """Saves the batch in flight after each step, and puts its entries into the bank after the last.

    The last step saves no batch. A run that is killed between that step and the last entry repeats
    the step, and keeps the entries that exist.
    """

    def on_train_batch_end(
        self, trainer: Trainer, module: MotionOptimization, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not outputs:
            return
        work: Work = outputs["work"]
        names, settings, step = work.batch.leg.names, work.batch.settings, work.state.step
        if step < module.iterations:
            guided = module.recipe.guided.start < step <= module.recipe.guided.stop
            inflight.save(
                trainer.datamodule.bank,
                names,
                settings,
                work.state,
                work.seconds,
                steps=module.iterations,
                guided=guided,
            )
            return
        try:
            entries = work.entries(keep_reference=module.keep_reference)
        except EntryError as error:
            return trainer.datamodule.outcomes.give_up(work.batch, error)
        trainer.datamodule.outcomes.publish(work.batch, entries)

    def on_save_checkpoint(
        self, trainer: Trainer, module: MotionOptimization, checkpoint: dict[str, Any]
    ) -> None:
        """Add the batch in flight. Finished clips are in the bank."""
        if (work := module.work) is not None and work.state.step < module.iterations:
            checkpoint["batch"] = {
                "names": list(work.batch.leg.names),
                "settings": work.batch.settings,
                "seconds": work.seconds,
            }
            checkpoint["tensors"] = work.state.tensors()

    def on_load_checkpoint(
        self, trainer: Trainer, module: MotionOptimization, checkpoint: dict[str, Any]
    ) -> None:
        """Put the batch back into the bank, from which every run goes on."""
        if checkpoint["tensors"] and not all(
            map(trainer.datamodule.library.is_done, checkpoint["batch"]["names"])
        ):
            state = State.from_tensors(checkpoint["tensors"])
            inflight.restore(
                trainer.datamodule.bank, state=state, steps=module.iterations, **checkpoint["batch"]
            )


class VideoWriter(Callback):
    """Writes videos of `predict`, and of `fit` with `finish`. Each says how it was made."""

    def on_train_batch_end(
        self, trainer: Trainer, module: MotionOptimization, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs and outputs["videos"] is not None:
            named = named_in(module, trainer.datamodule)
            for name, video in finished(outputs["work"], outputs["videos"], **named):
                video.write(trainer.datamodule.video_of(name))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        module: MotionOptimization,
        outputs: list[tuple[Generation, Video]],
        *_: Any,
    ) -> None:
        for generation, video in outputs:
            video.write(generation.file)


class PreviewWriter(Callback):
    """Writes a preview during `fit`: the video as the model predicts it at the present step.

    Args:
        every: Steps between two previews of a clip.
        out: Folder; by default `previews` beside the videos.
    """

    def __init__(self, every: int = 5, out: str | None = None) -> None:
        if every < 1:
            raise ValueError(f"every is {every}, but previews are at least one step apart.")
        self.every, self.out = every, out

    def on_train_batch_end(
        self, trainer: Trainer, module: MotionOptimization, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not outputs or outputs["work"].state.step % self.every:
            return
        state, folder = (
            outputs["work"].state,
            Path(self.out)
            if self.out is not None
            else trainer.datamodule.video_folder / "previews",
        )
        for name, frames in zip(
            outputs["work"].batch.leg.names, module.backbone.decode(state.previous_x0), strict=True
        ):
            make_folder(folder)
            write_video(folder / f"{name}-step{state.step:03d}.mp4", frames, module.fps)
        module.backbone.release_encoders()
