"""The backbone of a command, loaded for what the command does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from datamodules.motion_tasks import MotionTaskModule
from ditflow.models import (
    Model,
    Work,
    backbone_spec,
    load_backbone,
    plan_backbone,
    sketch_backbone,
)
from ditflow.models.dtypes import default_dtype
from ditflow.models.weights.plan import eight_bits
from trainers.motion import cores
from trainers.motion.dry_run import costs
from trainers.motion.generated import largest, readable


def loaded(module: Any, data: MotionTaskModule) -> Model:
    """The backbone of a MotionOptimization, on the device of its Trainer."""
    options: dict[str, Any] = {"device": module.trainer.strategy.root_device, **module.loaded_as}
    if options["memory"] is not None:
        fits = module.trainer.state.fn == "fit"
        options["work"] = (work_of_fit if fits else work_of_predict)(module, data)
    backbone = load_backbone(module.name, **options)
    cores.settle(backbone)
    return backbone


def work_of_fit(module: Any, data: MotionTaskModule) -> Work:
    """Updates of a batch of clips, as they were chosen."""
    spec = backbone_spec(module.name)
    guidance = module.choices.motion_guidance(sketch_backbone(module.name))
    again = module.choices.checkpointing
    return costs.work_of(spec, data.size_on(spec.size), counted(data), guidance, again)


def work_of_predict(module: Any, data: MotionTaskModule) -> Work:
    """The largest videos that are asked for."""
    spec = backbone_spec(module.name)
    entries = readable(data, data.generations)
    return costs.work_of(spec, largest(spec, data, entries.values()), counted(data), None)


def counted(data: MotionTaskModule) -> int:
    """The batch size to count with: auto is measured by a run, and is one clip at least."""
    return 1 if data.batch_size == "auto" else data.batch_size


def sketched(module: Any, data: MotionTaskModule, work: Callable[..., Work]) -> tuple[Model, str]:
    """The backbone without its weights, and the plan that it would be loaded by; "" for none."""
    device, options = module.trainer.strategy.root_device, dict(module.loaded_as)
    memory, quantised, _ = (options.pop(name) for name in ("memory", "quantised", "compile"))
    options["dtype"] = options["dtype"] or default_dtype(device)
    sketch, why = sketch_backbone(module.name, **options), ""
    if memory is not None:
        asked = {"device": device, "quantised": quantised, "work": work(module, data)}
        plan, why = plan_backbone(module.name, memory, **asked, **options)
        sketch.checkpointing, quantised = plan.checkpointing, plan.quantised
    sketch.spec = replace(sketch.spec, quantised=eight_bits(quantised))
    return sketch, why
