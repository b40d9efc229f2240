"""The videos of `predict`: a prompt's, with the motion of an entry."""

from __future__ import annotations

from typing import Any

from datamodules.motion_tasks import MotionTaskModule
from datamodules.queue.generation_queue import Generation
from ditflow.compatibility import own_size
from ditflow.injection_provenance import describe_injection
from ditflow.transfer import inject_motion
from ditflow.video import read_image
from trainers.motion.videos import Video, named_in


def generated(module: Any, data: MotionTaskModule, item: Generation) -> Video:
    """The video that a MotionOptimization makes. Raises ValueError where that cannot be."""
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
    return Video(inject_motion(backbone, entry, item.prompt, **asked), made)
