"""Instant motion as a LightningModule: a clip's field is its entry, and nothing is optimised.

One training step follows the pixels of a batch of clips. Neither the transformer nor an encoder is
loaded; the backbone only says how large a clip is taken.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import lightning as L

from datamodules.faults import BROKEN, FAILS
from datamodules.frames import ClipReader, FrameBatch, FrameBatching
from datamodules.motion_tasks import MotionTaskModule
from ditflow import __version__
from ditflow.bank import FieldEntry
from ditflow.fields.sources import field_of
from ditflow.fields.words import described
from ditflow.models import ModelSpec, sketch_backbone
from ditflow.provenance import Provenance
from ditflow.video import Clip
from trainers.motion import cores
from trainers.motion.strategy import check_strategy
from trainers.motion.work import sources_of

FlowSource = Literal["dis", "raft"]


@dataclass(frozen=True)
class Following:
    """How fields are made: by which optical flow. They depend on no backbone, and on no prompt."""

    flow: FlowSource
    negative_prompt = ""

    @property
    def provenance(self) -> dict[str, Any]:
        return {"method": self.flow}

    @property
    def settings(self) -> dict[str, Any]:
        return self.provenance

    def __str__(self) -> str:
        return f"instant motion: pixels followed by {self.flow}, nothing optimised"


class InstantMotion(L.LightningModule):
    """Takes the motion of clips as fields (`fit --method instant`), which serve any backbone.

    Args:
        backbone: The video model whose size and number of frames clips are taken at by default:
            the name of a shipped one, a folder in diffusers format, or a hub id. Its weights are
            not read.
        flow: What measures optical flow: dis (OpenCV), or raft, which needs torchvision.
    """

    iterations = 1
    finish = keep_reference = False  # a field makes no video, and keeps nothing of the clip

    def __init__(self, backbone: str = "tiny-rope", *, flow: FlowSource = "dis") -> None:
        super().__init__()
        self.automatic_optimization = False
        self.name, self.recipe = backbone, Following(flow)
        self.at = ""  # what this process is at, in words

    @cached_property
    def spec(self) -> ModelSpec:
        return sketch_backbone(self.name).spec

    def batching(self, data: MotionTaskModule) -> FrameBatching:
        """What a batch is made of: frames."""
        size = data.size_on(self.spec.size)
        return FrameBatching(ClipReader(self.spec.compression, size, auto=data.frames == "auto"))

    def setup(self, stage: str) -> None:
        check_strategy(self.trainer)
        cores.settle_flow(self.spec)
        if stage == "fit":
            self.trainer.datamodule.share_out()

    def configure_optimizers(self) -> None:
        """Nothing is optimised; Lightning's stand-in counts the batches."""

    def training_step(self, item: tuple[FrameBatch, int], batch_idx: int) -> dict[str, Any] | None:
        """The entries of a batch of clips; None where the batch was given up."""
        batch, _ = item
        self.optimizers().step()
        self.at = batch.leg.names[0]
        try:
            made = [
                field_entry(clip, self.recipe.flow, source)
                for clip, source in zip(batch.clips, sources_of(batch), strict=True)
            ]
        except BROKEN:
            raise
        except FAILS as error:
            self.trainer.datamodule.outcomes.give_up(batch, error.with_traceback(None))
            return None
        return {"batch": batch, "entries": dict(zip(batch.leg.names, made, strict=True))}

    def on_train_epoch_end(self) -> None:
        """One epoch does it all, whatever the Trainer's limit."""
        self.trainer.should_stop = True


def field_entry(clip: Clip, flow: FlowSource, source: Provenance) -> FieldEntry:
    """The entry of a clip. Raises FieldError for a clip that holds no motion to follow."""
    began = time.monotonic()
    field = field_of(clip.frames, source=flow, clip=source.clip)
    return FieldEntry.of(
        field,
        words=described(field),
        ditflow=__version__,
        size=(len(clip.frames), *clip.frames.shape[-2:]),
        seconds=time.monotonic() - began,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        **asdict(source),
    )
