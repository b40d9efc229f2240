"""The number of clips that is fastest to work on together (`--data.batch_size auto`), measured on
this device before the work begins. Results do not depend on it.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from datamodules.faults import NO_MEMORY
from datamodules.motion_tasks import MotionTaskModule
from ditflow.core.sizes import VideoSize
from ditflow.models import Model
from ditflow.models.weights.budget import bytes_of
from ditflow.sampling.control import Prompt
from ditflow.sampling.loop import denoising_step
from ditflow.sampling.recipe import Recipe
from ditflow.sampling.state import start
from trainers.motion.dry_run import costs
from trainers.motion.generated import largest, readable

WORTH = 0.02  # growth of clips a second for which a batch twice as large is worth its memory
REPEATS, ENOUGH = 5, 2.0  # of a step at most, and seconds after which two will do


def settled(module: Any, data: MotionTaskModule, most: int) -> int:
    """The batch size for so many clips or videos of a MotionOptimization; says it in one line."""
    most = math.ceil(most / module.trainer.world_size)  # which each rank has of them
    if most <= 1:
        return 1
    recipe, stock = None, module.backbone.spec.size
    if data.tasks:
        recipe, size = module.recipe, data.size_on(stock)
    else:
        size = largest(module.backbone.spec, data, readable(data, data.generations).values())
    asked = module.loaded_as["memory"]
    budget = math.inf if asked is None else bytes_of(asked)
    rates = measured(module.backbone, size, most, recipe, budget)
    print(told(rates), flush=True)
    if module.backbone.device.type == "cuda":
        torch.cuda.empty_cache()
    return fastest(rates)


def fastest(rates: Mapping[int, float]) -> int:
    """The smallest of the batch sizes that make as many clips a second as the best, or nearly."""
    best = max(rates.values())
    return min(size for size, rate in rates.items() if rate >= best * (1 - WORTH))


def rates_of(
    seconds: Callable[[int], float], most: int, fits: Callable[[int], bool]
) -> dict[int, float]:
    """Clips a second by batch size: 1, 2, 4 and so on, until twice as large is hardly faster, does
    not fit, or there are no more clips.
    """
    rates = {1: 1 / seconds(1)}
    while rates[1] and (last := max(rates)) < most and fits(size := min(2 * last, most)):
        rates[size] = size / seconds(size)
        if rates[size] < (1 + WORTH) * rates[last]:
            break
    return rates


def measured(
    backbone: Model,
    size: VideoSize,
    most: int,
    recipe: Recipe | None = None,
    budget: float = math.inf,
) -> dict[int, float]:
    """Steps of one clip a second, by batch size, for videos of a size: guided steps of a recipe
    with one update, or plain ones. No batch takes more bytes than are free, or than the `budget`.
    """
    guidance = None if recipe is None else recipe.guidance
    free = min(_memory(backbone), budget)

    def fits(count: int) -> bool:
        return costs.memory(backbone, size, count, guidance) <= free

    def seconds(count: int) -> float:
        try:
            return _seconds(step_of(backbone, size, count, recipe))
        except NO_MEMORY:
            return math.inf

    return rates_of(seconds, most, fits)


def told(rates: Mapping[int, float]) -> str:
    """What was chosen and why, in one line."""
    if not rates[1]:
        return "Batches of 1: the memory is short for one clip already."
    if len(rates) == 1:
        return "Batches of 1: there is no more to do at once, or no memory for more."
    others = ", ".join(f"{rate / rates[1]:.2f} of {size}" for size, rate in rates.items())
    return f"Batches of {fastest(rates)}: clips a second, against one at a time, are {others}."


def step_of(
    backbone: Model, size: VideoSize, count: int, recipe: Recipe | None
) -> Callable[[], object]:
    """A step of so many clips of noise."""
    spec, names = backbone.spec, [str(number) for number in range(count)]
    text = torch.zeros(count, spec.text_tokens, spec.text_channels, device=backbone.device)
    state = start(backbone, size, names, range(count))
    picture = backbone.blank(state.latents)
    if recipe is None or not _can_look(recipe):
        step = backbone.schedule(2)[0]
        return lambda: denoising_step(backbone, step, Prompt(text, text, picture), state)
    guidance = replace(recipe.guidance, inner_steps=1)
    parameter = guidance.kind.start(backbone, state.noise).parameter
    state = replace(state, parameter=parameter)
    recipe, step = replace(recipe, guidance=guidance), recipe.schedule[recipe.window.start]
    with warnings.catch_warnings(action="ignore"):  # noise that does not move
        control = recipe.control(state.noise, text, names, state.noise, picture=picture)
    prompt = Prompt(text, text, picture)
    return lambda: denoising_step(backbone, step, prompt, state, control)


def _can_look(recipe: Recipe) -> bool:
    """Whether a step of noise is guided as one of a clip. A signal that reads words, or inverts its
    clips, has nothing to read there; then plain steps are measured.
    """
    signal = recipe.guidance.signal
    return signal is not None and signal.subjects is None and signal.looks.timestep != "inverted"


def _seconds(step: Callable[[], object]) -> float:
    """Of the fastest time that a step is taken; the first may be slow. Of one thread on a processor
    it is the time that it ran, whatever else does.
    """
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock, times = time.process_time if alone else time.perf_counter, list[float]()
    while len(times) < 2 or (len(times) < REPEATS and sum(times) < ENOUGH):
        began = clock()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(clock() - began)
    return min(times)


def _memory(backbone: Model) -> float:
    """Bytes that a run may take, with those of the weights that are there: what is free on a GPU,
    half of the machine's for a process on a CPU.
    """
    if backbone.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(backbone.device)
        return float(free + torch.cuda.memory_reserved(backbone.device))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
