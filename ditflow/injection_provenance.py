"""What `inject_motion` makes of its arguments, said in full: the provenance of its video."""

from __future__ import annotations

from dataclasses import asdict, astuple, replace
from typing import Any

from ditflow.bank import BankEntry
from ditflow.bank.kinds import AnyEntry
from ditflow.compatibility import Injection, own_size, window_of
from ditflow.core.schedule import GuidanceKind, Scale
from ditflow.core.sizes import VideoSize
from ditflow.fields.changes import renamed
from ditflow.fields.field import MotionField
from ditflow.models import Model
from ditflow.models.presets import recommended
from ditflow.sampling.recipe import given_or
from ditflow.video import Image
from ditflow.video_provenance import VideoProvenance, as_named


def describe_injection(
    backbone: Model,
    motion: AnyEntry | MotionField,
    prompt: str,
    *,
    fps: float,
    image: Image | None = None,
    seed: int = 0,
    negative_prompt: str | None = None,
    steps: int | None = None,
    guidance_scale: Scale | None = None,
    guidance_kind: GuidanceKind | None = None,
    size: VideoSize | None = None,
    how: Injection | None = None,
    **named: Any,
) -> VideoProvenance:
    """How `inject_motion` makes a video of the same arguments, with what None stands for.

    `fps` are those that the video is written with. `named` are further fields of the provenance,
    such as `bank` and `entry`. Raises ValueError for a value that cannot be, and for steps that the
    backbone cannot take. Whether the motion fits the backbone, `inject_motion` says.
    """
    own: Any = recommended(backbone.spec)
    if isinstance(motion, BankEntry):
        own = motion.metadata
        guidance_kind = guidance_kind or own.guidance
    scale = given_or(guidance_scale, own.guidance_scale)
    schedule = backbone.schedule(given_or(steps, own.steps), scale, guidance_kind)
    fields = dict(
        negative_prompt=given_or(negative_prompt, own.negative_prompt),
        image="" if image is None else image.path.name,
        image_sha256="" if image is None else image.sha256,
        backbone=backbone.spec.name,
        backbone_fingerprint=backbone.spec.fingerprint,
        loras=tuple(map(asdict, backbone.spec.loras)),
        dtype=str(backbone.dtype).removeprefix("torch."),
        quantised=backbone.spec.quantised,
        size=astuple(given_or(size, own_size(backbone, motion))),
        steps=len(schedule),
        guidance_scale=schedule.guidance_scale,
        guidance=schedule.guidance,
    )
    how = given_or(how, Injection())
    acting = vars(_acting(backbone, motion, how)) | _masks(how)
    fields |= acting | _source(motion) | named
    return VideoProvenance(prompt=prompt, seed=seed, fps=fps, **fields)


def _acting(backbone: Model, motion: AnyEntry | MotionField, how: Injection) -> Injection:
    """How a motion acts, with what None stands for."""
    if isinstance(motion, BankEntry):
        return replace(how, passes=how.placement(motion.metadata.passes).passes)
    share = given_or(how.noise_share, recommended(backbone.spec).instant_noise_share)
    passes = how.placement("conditional").passes
    return replace(how, passes=passes, window=window_of(backbone, how), noise_share=share)


def _masks(how: Injection) -> dict[str, Any]:
    """The change with its pictures as others may read them, and the hash of each."""
    told = {name: as_named(str(mask.path)) for name, mask in how.masks.items()}
    masks = tuple({"file": told[name], "sha256": how.masks[name].sha256} for name in told)
    return {"change": renamed(how.change or "", told) if told else how.change, "masks": masks}


def _source(motion: AnyEntry | MotionField) -> dict[str, str]:
    """Whose motion it is."""
    if isinstance(motion, MotionField):
        return {"clip": motion.source.clip}
    metadata, sha256 = motion.metadata, motion.content_hash
    return {"clip": metadata.clip, "clip_sha256": metadata.clip_sha256, "entry_sha256": sha256}
