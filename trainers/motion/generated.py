"""The videos of `predict`: prompts, with the motions of entries, made in batches."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from contextlib import suppress
from dataclasses import astuple
from typing import Any

from datamodules.faults import reported
from datamodules.motion_tasks import MotionTaskModule
from datamodules.queue.generation_queue import Batch, Generation
from ditflow.bank import EntryError, EntryMetadata, FieldMetadata
from ditflow.compatibility import draft_injection, own_size, videos_of
from ditflow.core.sizes import VideoSize
from ditflow.injection_provenance import describe_injection
from ditflow.models import ModelSpec
from ditflow.sampling.loop import Draft
from ditflow.video import read_image
from ditflow.video_provenance import VideoProvenance
from trainers.motion.dry_run.costs import schedule_of
from trainers.motion.videos import Video, named_in

Entries = dict[str, EntryMetadata | FieldMetadata]  # by name


def alike(module: Any, data: MotionTaskModule, item: Generation) -> Hashable:
    """What videos have in common that a MotionOptimization makes together: their steps, whether
    they begin with a picture, and of optimised entries size, variable and window.

    A video whose entry cannot be read, or does not fit, has nothing in common with others.
    """
    try:
        metadata = data.bank.metadata(item.entry)
        schedule = schedule_of(metadata, module.backbone, module.choices)
    except ValueError:
        return item
    own: tuple[object, ...] = ()
    if isinstance(metadata, EntryMetadata):
        own = metadata.size, metadata.variable, metadata.window, metadata.steps
    return (*own, schedule, bool(item.image))


def readable(data: MotionTaskModule, videos: Iterable[Generation]) -> Entries:
    """The metadata of the entries that videos are made from, without damaged entries."""
    found: Entries = {}
    for name in dict.fromkeys(video.entry for video in videos):
        with suppress(EntryError):
            found[name] = data.bank.metadata(name)
    return found


def largest(
    spec: ModelSpec, data: MotionTaskModule, entries: Iterable[EntryMetadata | FieldMetadata]
) -> VideoSize:
    """The size of the largest video that will be made; of a field it is the backbone's."""
    stock = data.size_on(spec.size)
    sizes = [
        data.size_on(VideoSize(*entry.size)) if isinstance(entry, EntryMetadata) else stock
        for entry in entries
    ]
    return max(sizes, key=lambda size: math.prod(astuple(size)), default=stock)


def generated(module: Any, data: MotionTaskModule, batch: Batch) -> list[tuple[Generation, Video]]:
    """The videos of a batch, but for those that fail by themselves. Where all fail together there
    are none, and the batch is tried in halves.
    """
    drafts: dict[Generation, tuple[Draft, VideoProvenance]] = {}
    for item in batch:
        with reported(item, data.queue.fail):
            drafts[item] = _draft(module, data, item)
    videos: list[tuple[Generation, Video]] = []
    if not drafts:
        return videos
    with reported(tuple(drafts), data.queue.halve):
        frames = videos_of(module.backbone, [draft for draft, _ in drafts.values()])
        made = (made for _, made in drafts.values())
        videos = list(zip(drafts, map(Video, frames, made), strict=True))
    return videos


def _draft(module: Any, data: MotionTaskModule, item: Generation) -> tuple[Draft, VideoProvenance]:
    """A video before it is denoised, and how it is made."""
    backbone, choices, entry = module.backbone, module.choices, data.bank[item.entry]
    asked: Any = dict(
        image=read_image(item.image) if item.image else None,
        seed=item.seed,
        negative_prompt=item.negative_prompt,
        steps=choices.steps,
        guidance_scale=choices.guidance_scale,
        guidance_kind=choices.guidance,
        size=data.size_on(own_size(backbone, entry)),
        how=module.injection.of(entry),
    )
    told = named_in(module, data) | {"command": "predict", "entry": item.entry}
    made = describe_injection(backbone, entry, item.prompt, **asked, **told)
    return draft_injection(backbone, entry, item.prompt, **asked), made
