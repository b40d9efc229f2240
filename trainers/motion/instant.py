"""Instant motion as a LightningModule: a clip's field is its entry, and nothing is optimised.

One training step measures the motion of a batch of clips. The backbone says how large a clip is
taken; it is loaded only where the motion is what the backbone itself sees.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import lightning as L

from datamodules.faults import BROKEN, FAILS
from datamodules.frames import ClipReader, FrameBatch, FrameBatching
from datamodules.motion_tasks import MotionTaskModule
from ditflow.bank import FieldEntry, Provenance
from ditflow.core.sizes import VideoSize
from ditflow.extraction import SourceName, source_of
from ditflow.fields.sources import Source, field_of
from ditflow.fields.words import described
from ditflow.models import Model, load_backbone, sketch_backbone
from ditflow.provenance import told
from ditflow.video import Clip
from trainers.motion import cores
from trainers.motion.strategy import check_strategy
from trainers.motion.work import sources_of


@dataclass(frozen=True)
class Following:
    """How fields are made: by which source. They depend on no prompt."""

    source: Source
    former: ClassVar[dict[str, Any]] = {}
    negative_prompt = ""

    @property
    def provenance(self) -> dict[str, Any]:
        return {"method": self.source.name}

    @property
    def settings(self) -> dict[str, Any]:
        return self.provenance

    def __str__(self) -> str:
        return f"instant motion by {self.source.name}, nothing optimised"


class InstantMotion(L.LightningModule):
    """Takes the motion of clips as fields (`fit --method instant`), which serve any backbone.

    Args:
        backbone: The video model whose size and number of frames clips are taken at by default:
            the name of a shipped one, a folder in diffusers format, or a hub id. Its weights are
            read for the source amf alone.
        source: What measures motion: dis is optical flow by OpenCV, raft by torchvision;
            lucas-kanade and cotracker3 track points; amf is the motion that the backbone sees.
    """

    iterations = 1
    finish = keep_reference = False  # a field makes no video, and keeps nothing of the clip
    reads_images = False  # nor does it show a picture to a model

    def __init__(self, backbone: str = "tiny-rope", *, source: SourceName = "dis") -> None:
        super().__init__()
        self.automatic_optimization = False
        self.name, self.source = backbone, source
        self.at = ""  # what this process is at, in words

    @cached_property
    def backbone(self) -> Model:
        if self.source != "amf":
            return sketch_backbone(self.name)
        return load_backbone(self.name, device=self.trainer.strategy.root_device)

    @cached_property
    def recipe(self) -> Following:
        return Following(source_of(self.source, self.backbone))

    def batching(self, data: MotionTaskModule) -> FrameBatching:
        """What a batch is made of: frames."""
        size, compression = data.size_on(self.backbone.spec.size), self.backbone.spec.compression
        return FrameBatching(ClipReader(compression, size, auto=data.frames == "auto"))

    def batch_size(self, most: int) -> int:
        """Clips are followed one by one, so that none gains by another."""
        return 1

    def setup(self, stage: str) -> None:
        check_strategy(self.trainer)
        cores.settle_flow(self.backbone.spec)
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
                field_entry(clip, self.recipe.source, source)
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


def field_entry(clip: Clip, measure: Source, source: Provenance) -> FieldEntry:
    """The entry of a clip. Raises FieldError for a clip that holds no motion to follow."""
    began = time.monotonic()
    field = field_of(clip.frames, measure, source.clip)
    size = VideoSize(len(clip.frames), *clip.frames.shape[-2:])
    spent = time.monotonic() - began
    return FieldEntry.of(field, words=described(field), **told(source, size, spent))
